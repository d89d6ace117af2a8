"""Raw answers: questions, prompts, mirrors, and what they answered."""
