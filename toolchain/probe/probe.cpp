// edgequant-probe: load a model, evaluate a prompt, generate tokens greedily, and write one JSON
// line for each step with its time on this machine's monotonic clock and what explains that time.
//
// stdout carries JSON lines only, each flushed at once; llama.cpp's log goes to stderr.
// Nothing but the evaluation itself (and picking the token) lies between two clock readings:
// /proc and /sys are read outside.

#include "llama.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <fcntl.h>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

#ifndef EDGEQUANT_LLAMA_CPP_COMMIT
#define EDGEQUANT_LLAMA_CPP_COMMIT "unknown"
#endif

namespace {

constexpr int PROBE_VERSION = 1;

constexpr int EXIT_FAILED = 1;
constexpr int EXIT_USAGE = 2;

constexpr const char * USAGE =
    "usage: edgequant-probe --model FILE (--prompt TEXT | --prompt-file FILE) [options]\n"
    "  -n N                  tokens to generate (32)\n"
    "  --threads T           threads (one for each CPU)\n"
    "  --repack 0|1          let the CPU backend repack weights into a second copy (1)\n"
    "  --mmap 0|1            map the file instead of reading it (1)\n"
    "  --mlock 0|1           lock the weights in RAM (0)\n"
    "  --cache-type-k TYPE   f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl (f16)\n"
    "  --cache-type-v TYPE   the same (f16)\n"
    "  --context N           size of the context in tokens (prompt + N)\n"
    "  --batch N             prompt tokens evaluated at once (512)\n"
    "  --parse-special 0|1   read special tokens such as <|im_start|> in the prompt (1)\n"
    "  --stop-at-eog 0|1     stop at an end-of-generation token (0)\n"
    "  --version             print the versions as one JSON line\n";

struct ProbeFailure : std::runtime_error {
    int exit_code;
    explicit ProbeFailure(const std::string & message, int code = EXIT_FAILED)
        : std::runtime_error(message), exit_code(code) {}
};

// ---------------------------------------------------------------------------- JSON

// Length of the UTF-8 sequence at `text[at]`: its bytes if whole and valid, 0 if it could still
// become valid with more bytes, -1 if it never can.
int utf8_sequence(const std::string & text, size_t at) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(at);
    if (lead < 0x80) {
        return 1;
    }
    int length = 0;
    unsigned char low = 0x80;   // bounds of the second byte: no overlong forms, no surrogates
    unsigned char high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        low = lead == 0xE0 ? 0xA0 : 0x80;
        high = lead == 0xED ? 0x9F : 0xBF;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        low = lead == 0xF0 ? 0x90 : 0x80;
        high = lead == 0xF4 ? 0x8F : 0xBF;
    } else {
        return -1;
    }
    for (int i = 1; i < length; ++i) {
        if (at + i >= text.size()) {
            return 0;
        }
        const unsigned char next = byte(at + i);
        if (next < low || next > high) {
            return -1;
        }
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

// Text made valid: bytes that are no UTF-8 become U+FFFD. An incomplete sequence at the end is
// left in `pending` for the next piece, unless `last`.
std::string valid_utf8(std::string & pending, const std::string & bytes, bool last) {
    const std::string text = pending + bytes;
    pending.clear();
    std::string valid;
    for (size_t at = 0; at < text.size();) {
        const int length = utf8_sequence(text, at);
        if (length > 0) {
            valid.append(text, at, static_cast<size_t>(length));
            at += static_cast<size_t>(length);
        } else if (length == 0 && !last) {
            pending = text.substr(at);
            break;
        } else {
            valid += "\xEF\xBF\xBD";
            ++at;
        }
    }
    return valid;
}

std::string json_string(const std::string & text) {
    std::string pending;
    std::string quoted = "\"";
    for (const char c : valid_utf8(pending, text, true)) {
        switch (c) {
            case '"': quoted += "\\\""; break;
            case '\\': quoted += "\\\\"; break;
            case '\n': quoted += "\\n"; break;
            case '\r': quoted += "\\r"; break;
            case '\t': quoted += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
                    char escaped[8];
                    std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(c));
                    quoted += escaped;
                } else {
                    quoted += c;
                }
        }
    }
    return quoted + "\"";
}

// One line of JSON, written and flushed when it is finished.
class Event {
public:
    explicit Event(const char * name) : line_("{\"event\":" + json_string(name)) {}

    Event & text(const char * key, const std::string & value) { return raw(key, json_string(value)); }
    Event & boolean(const char * key, bool value) { return raw(key, value ? "true" : "false"); }
    Event & number(const char * key, int64_t value) { return raw(key, std::to_string(value)); }

    Event & number(const char * key, std::optional<int64_t> value) {
        return raw(key, value ? std::to_string(*value) : "null");
    }

    Event & number(const char * key, std::optional<double> value) {
        if (!value || !std::isfinite(*value)) {
            return raw(key, "null");
        }
        char formatted[32];
        std::snprintf(formatted, sizeof(formatted), "%.3f", *value);
        return raw(key, formatted);
    }

    // Throws ProbeFailure when stdout cannot be written: then nobody is listening any more.
    void write() {
        line_ += "}\n";
        if (std::fwrite(line_.data(), 1, line_.size(), stdout) != line_.size() || std::fflush(stdout) != 0) {
            throw ProbeFailure(std::string("cannot write to stdout: ") + std::strerror(errno));
        }
    }

private:
    Event & raw(const char * key, const std::string & value) {
        line_ += ",\"" + std::string(key) + "\":" + value;
        return *this;
    }

    std::string line_;
};

// ---------------------------------------------------------------------------- the machine

int64_t now_nanoseconds() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

// A small file of /proc or /sys, or nothing where this machine has none or refuses it.
std::optional<std::string> read_small_file(const char * path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return std::nullopt;
    }
    char buffer[1024];
    const ssize_t count = read(file, buffer, sizeof(buffer));
    close(file);
    if (count <= 0) {
        return std::nullopt;
    }
    return std::string(buffer, static_cast<size_t>(count));
}

std::optional<int64_t> leading_number(const std::string & text) {
    char * end = nullptr;
    errno = 0;
    const long long value = std::strtoll(text.c_str(), &end, 10);
    if (end == text.c_str() || errno != 0) {
        return std::nullopt;
    }
    return value;
}

std::optional<int64_t> number_in_file(const char * path) {
    const auto text = read_small_file(path);
    return text ? leading_number(*text) : std::nullopt;
}

// Bytes that this process made the storage deliver, page faults and read-ahead included.
std::optional<int64_t> storage_bytes_read() {
    const auto text = read_small_file("/proc/self/io");
    const char * key = "\nread_bytes: ";
    const size_t at = text ? text->find(key) : std::string::npos;
    return at == std::string::npos ? std::nullopt : leading_number(text->substr(at + std::strlen(key)));
}

std::optional<int64_t> resident_bytes() {
    const auto text = read_small_file("/proc/self/statm");
    const size_t space = text ? text->find(' ') : std::string::npos;
    if (space == std::string::npos) {
        return std::nullopt;
    }
    const auto pages = leading_number(text->substr(space + 1));
    return pages ? std::optional<int64_t>(*pages * sysconf(_SC_PAGESIZE)) : std::nullopt;
}

std::optional<int64_t> frequency_hz() {
    const auto kilohertz = number_in_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq");
    return kilohertz ? std::optional<int64_t>(*kilohertz * 1000) : std::nullopt;
}

std::optional<double> temperature_celsius() {
    const auto thousandths = number_in_file("/sys/class/thermal/thermal_zone0/temp");
    return thousandths ? std::optional<double>(static_cast<double>(*thousandths) / 1000.0) : std::nullopt;
}

struct Counters {
    int64_t major_faults = 0;
    int64_t minor_faults = 0;
    std::optional<int64_t> read_bytes;

    static Counters now() {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        return {usage.ru_majflt, usage.ru_minflt, storage_bytes_read()};
    }
};

// One timed step: the counters are read before the clock starts and after it stops.
class Step {
public:
    Step() : before_(Counters::now()), start_(now_nanoseconds()) {}

    void stop() {
        nanoseconds_ = now_nanoseconds() - start_;
        after_ = Counters::now();
    }

    int64_t nanoseconds() const { return nanoseconds_; }

    Event & add_to(Event & event) const {
        std::optional<int64_t> read_bytes;
        if (before_.read_bytes && after_.read_bytes) {
            read_bytes = *after_.read_bytes - *before_.read_bytes;
        }
        return event.number("nanoseconds", nanoseconds_)
            .number("major_faults", after_.major_faults - before_.major_faults)
            .number("minor_faults", after_.minor_faults - before_.minor_faults)
            .number("read_bytes", read_bytes)
            .number("resident_bytes", resident_bytes())
            .number("frequency_hz", frequency_hz())
            .number("temperature_celsius", temperature_celsius());
    }

private:
    Counters before_;   // members in this order: the clock starts last
    int64_t start_;
    int64_t nanoseconds_ = 0;
    Counters after_;
};

// ---------------------------------------------------------------------------- llama.cpp

// What llama.cpp logged as errors: its functions return only null or a status.
std::string llama_errors;

void log_to_stderr(ggml_log_level level, const char * text, void *) {
    constexpr size_t ENOUGH = 500;
    if (level == GGML_LOG_LEVEL_ERROR && llama_errors.size() < ENOUGH) {
        std::string line = text;
        line.erase(line.find_last_not_of('\n') + 1);
        llama_errors += (llama_errors.empty() || line.empty() ? "" : "; ") + line;
    }
    std::fputs(text, stderr);
}

std::string with_llama_error(const std::string & message) {
    return llama_errors.empty() ? message : message + ": " + llama_errors;
}

// The tree's way of choosing mmap and mlock changed from two booleans to one mode; both are
// served, so that the probe builds over older trees too.
template <typename Params>
auto set_load_mode(Params & params, bool mmap, bool mlock, int) -> decltype(params.load_mode, void()) {
    params.load_mode = static_cast<decltype(params.load_mode)>((mmap ? 1 : 0) + (mlock ? 2 : 0));
}

template <typename Params>
void set_load_mode(Params & params, bool mmap, bool mlock, long) {
    params.use_mmap = mmap;
    params.use_mlock = mlock;
}

template <typename Params>
auto set_repack(Params & params, bool repack, int) -> decltype(params.use_extra_bufts, void()) {
    params.use_extra_bufts = repack;
}

template <typename Params>
void set_repack(Params &, bool repack, long) {
    if (!repack) {
        throw ProbeFailure("this llama.cpp cannot be told not to repack: leave --repack at 1", EXIT_USAGE);
    }
}

ggml_type cache_type(const std::string & name) {
    const std::pair<const char *, ggml_type> known[] = {
        {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
        {"q8_0", GGML_TYPE_Q8_0}, {"q5_1", GGML_TYPE_Q5_1}, {"q5_0", GGML_TYPE_Q5_0},
        {"q4_1", GGML_TYPE_Q4_1}, {"q4_0", GGML_TYPE_Q4_0}, {"iq4_nl", GGML_TYPE_IQ4_NL},
    };
    for (const auto & [known_name, type] : known) {
        if (name == known_name) {
            return type;
        }
    }
    throw ProbeFailure("unknown cache type '" + name + "'", EXIT_USAGE);
}

std::string token_piece(const llama_vocab * vocab, llama_token token) {
    std::string piece(64, '\0');
    int32_t length = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, true);
    if (length < 0) {
        piece.resize(static_cast<size_t>(-length));
        length = llama_token_to_piece(vocab, token, piece.data(), static_cast<int32_t>(piece.size()), 0, true);
    }
    piece.resize(static_cast<size_t>(std::max(length, 0)));
    return piece;
}

std::vector<llama_token> tokenize(const llama_vocab * vocab, const std::string & text, bool parse_special) {
    // add_special follows the vocabulary: a BOS is put in front only where the model wants one.
    const auto bytes = static_cast<int32_t>(text.size());
    const int32_t count = -llama_tokenize(vocab, text.data(), bytes, nullptr, 0, true, parse_special);
    if (count <= 0) {
        throw ProbeFailure("the prompt has no tokens");
    }
    std::vector<llama_token> tokens(static_cast<size_t>(count));
    if (llama_tokenize(vocab, text.data(), bytes, tokens.data(), count, true, parse_special) != count) {
        throw ProbeFailure("the prompt cannot be tokenized");
    }
    return tokens;
}

void decode(llama_context * context, llama_token * tokens, int32_t count) {
    const int32_t status = llama_decode(context, llama_batch_get_one(tokens, count));
    if (status != 0) {
        throw ProbeFailure(with_llama_error("llama_decode failed with status " + std::to_string(status)));
    }
}

// The most likely token of the last logits; the first of equals, as llama.cpp's greedy sampler.
llama_token most_likely(llama_context * context, int32_t vocabulary_size) {
    const float * logits = llama_get_logits_ith(context, -1);
    if (logits == nullptr) {
        throw ProbeFailure("llama.cpp returned no logits");
    }
    llama_token best = 0;
    for (llama_token token = 1; token < vocabulary_size; ++token) {
        if (logits[token] > logits[best]) {
            best = token;
        }
    }
    if (!std::isfinite(logits[best])) {
        throw ProbeFailure("the model's output is not a number: the weights or the build are broken");
    }
    return best;
}

// ---------------------------------------------------------------------------- options

struct Options {
    std::string model;
    std::string prompt;
    bool has_prompt = false;
    int tokens = 32;
    int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    int context = 0;
    int batch = 512;
    bool repack = true;
    bool mmap = true;
    bool mlock = false;
    bool parse_special = true;
    bool stop_at_eog = false;
    std::string cache_type_k = "f16";
    std::string cache_type_v = "f16";
};

int parse_number(const std::string & option, const std::string & value, int lowest) {
    char * end = nullptr;
    errno = 0;
    const long number = std::strtol(value.c_str(), &end, 10);
    if (value.empty() || *end != '\0' || errno != 0 || number < lowest || number > 100000000) {
        throw ProbeFailure(
            option + " needs a number of at least " + std::to_string(lowest) + ", not '" + value + "'", EXIT_USAGE);
    }
    return static_cast<int>(number);
}

bool parse_switch(const std::string & option, const std::string & value) {
    if (value != "0" && value != "1") {
        throw ProbeFailure(option + " needs 0 or 1, not '" + value + "'", EXIT_USAGE);
    }
    return value == "1";
}

std::string read_prompt_file(const std::string & path) {
    FILE * file = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
    if (file == nullptr) {
        throw ProbeFailure("cannot open the prompt file " + path + ": " + std::strerror(errno));
    }
    std::string text;
    char buffer[4096];
    for (size_t count; (count = std::fread(buffer, 1, sizeof(buffer), file)) > 0;) {
        text.append(buffer, count);
    }
    const bool failed = std::ferror(file) != 0;
    if (file != stdin) {
        std::fclose(file);
    }
    if (failed) {
        throw ProbeFailure("cannot read the prompt file " + path + ": " + std::strerror(errno));
    }
    return text;
}

Options parse_options(int argc, char ** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (i + 1 >= argc) {
            throw ProbeFailure("unknown option, or no value after it: " + option, EXIT_USAGE);
        }
        const std::string value = argv[++i];
        if (option == "--model" || option == "-m") {
            options.model = value;
        } else if (option == "--prompt" || option == "-p") {
            options.prompt = value;
            options.has_prompt = true;
        } else if (option == "--prompt-file" || option == "-f") {
            options.prompt = read_prompt_file(value);
            options.has_prompt = true;
        } else if (option == "-n") {
            options.tokens = parse_number(option, value, 1);
        } else if (option == "--threads" || option == "-t") {
            options.threads = parse_number(option, value, 1);
        } else if (option == "--context") {
            options.context = parse_number(option, value, 1);
        } else if (option == "--batch") {
            options.batch = parse_number(option, value, 1);
        } else if (option == "--repack") {
            options.repack = parse_switch(option, value);
        } else if (option == "--mmap") {
            options.mmap = parse_switch(option, value);
        } else if (option == "--mlock") {
            options.mlock = parse_switch(option, value);
        } else if (option == "--parse-special") {
            options.parse_special = parse_switch(option, value);
        } else if (option == "--stop-at-eog") {
            options.stop_at_eog = parse_switch(option, value);
        } else if (option == "--cache-type-k") {
            options.cache_type_k = value;
        } else if (option == "--cache-type-v") {
            options.cache_type_v = value;
        } else {
            throw ProbeFailure("unknown option: " + option, EXIT_USAGE);
        }
    }
    if (options.model.empty() || !options.has_prompt) {
        throw ProbeFailure("--model and one of --prompt and --prompt-file are needed", EXIT_USAGE);
    }
    return options;
}

// ---------------------------------------------------------------------------- the run

void run(const Options & options) {
    const ggml_type type_k = cache_type(options.cache_type_k);
    const ggml_type type_v = cache_type(options.cache_type_v);

    struct stat status{};
    if (stat(options.model.c_str(), &status) != 0) {
        throw ProbeFailure("cannot open the model " + options.model + ": " + std::strerror(errno));
    }

    llama_model_params model_params = llama_model_default_params();
    set_load_mode(model_params, options.mmap, options.mlock, 0);
    set_repack(model_params, options.repack, 0);

    Step load;
    llama_model * model = llama_model_load_from_file(options.model.c_str(), model_params);
    load.stop();
    if (model == nullptr) {
        throw ProbeFailure(with_llama_error("cannot load the model " + options.model));
    }
    if (llama_model_has_encoder(model)) {
        throw ProbeFailure("encoder-decoder models are not supported: " + options.model);
    }

    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int32_t vocabulary_size = llama_vocab_n_tokens(vocab);
    std::vector<llama_token> prompt = tokenize(vocab, options.prompt, options.parse_special);
    const auto prompt_count = static_cast<int64_t>(prompt.size());
    // The last token that is generated is never evaluated, so it needs no place in the context.
    const int64_t needed = prompt_count + options.tokens - 1;
    if (options.context > 0 && needed > options.context) {
        throw ProbeFailure(
            "a prompt of " + std::to_string(prompt_count) + " tokens and " + std::to_string(options.tokens) +
            " new ones do not fit in a context of " + std::to_string(options.context) + " tokens");
    }

    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = static_cast<uint32_t>(options.context > 0 ? options.context : needed);
    context_params.n_batch = static_cast<uint32_t>(options.batch);
    context_params.n_ubatch = static_cast<uint32_t>(options.batch);
    context_params.n_threads = options.threads;
    context_params.n_threads_batch = options.threads;
    context_params.type_k = type_k;
    context_params.type_v = type_v;
    context_params.no_perf = true;
    llama_context * context = llama_init_from_model(model, context_params);
    if (context == nullptr) {
        throw ProbeFailure(with_llama_error(
            "cannot make a context of " + std::to_string(context_params.n_ctx) + " tokens (too little memory, or cache types "
            "that this model does not allow)"));
    }

    Event start("start");
    start.number("probe_version", int64_t{PROBE_VERSION})
        .text("llama_cpp_commit", EDGEQUANT_LLAMA_CPP_COMMIT)
        .text("model", options.model)
        .number("threads", int64_t{options.threads})
        .boolean("repack", options.repack)
        .boolean("mmap", options.mmap)
        .boolean("mlock", options.mlock)
        .text("cache_type_k", options.cache_type_k)
        .text("cache_type_v", options.cache_type_v)
        .number("context", int64_t{llama_n_ctx(context)})
        .number("batch", int64_t{options.batch})
        .number("prompt_tokens", prompt_count)
        .number("tokens", int64_t{options.tokens})
        .text("system_info", llama_print_system_info())
        .write();

    Event loaded("load");
    load.add_to(loaded).number("model_bytes", static_cast<int64_t>(llama_model_size(model))).write();

    const int64_t run_start = now_nanoseconds();

    Step prefill;
    for (size_t done = 0; done < prompt.size();) {
        const size_t count = std::min(prompt.size() - done, static_cast<size_t>(options.batch));
        decode(context, prompt.data() + done, static_cast<int32_t>(count));
        done += count;
    }
    llama_synchronize(context);
    prefill.stop();
    Event prefilled("prefill");
    prefill.add_to(prefilled).number("tokens", prompt_count).write();

    std::string pending;
    llama_token token = 0;
    bool ended = false;
    int generated = 0;
    while (generated < options.tokens && !ended) {
        Step step;
        if (generated > 0) {
            decode(context, &token, 1);
        }
        token = most_likely(context, vocabulary_size);
        step.stop();
        ended = options.stop_at_eog && llama_vocab_is_eog(vocab, token);
        const bool last = ended || generated + 1 == options.tokens;
        Event event("token");
        event.number("index", int64_t{generated})
            .number("token_id", int64_t{token})
            .text("piece", valid_utf8(pending, token_piece(vocab, token), last));
        step.add_to(event).write();
        ++generated;
    }

    Event("end")
        .text("stop_reason", ended ? "eog" : "limit")
        .number("tokens", int64_t{generated})
        .number("nanoseconds", now_nanoseconds() - run_start)
        .write();

    llama_free(context);
    llama_model_free(model);
}

// ---------------------------------------------------------------------------- the end

// ggml aborts where it runs out of memory or finds a broken invariant, and a mapped file that
// shrinks or cannot be read is a SIGBUS: say so on stdout as well. Only write() is safe here.
void report_signal(int signal_number) {
    const char * line = "{\"event\":\"error\",\"message\":\"killed by a signal\"}\n";
    switch (signal_number) {
        case SIGABRT:
            line = "{\"event\":\"error\",\"message\":\"llama.cpp aborted (SIGABRT): most often too little memory; "
                   "its reason is in the last lines of stderr\"}\n";
            break;
        case SIGBUS:
            line = "{\"event\":\"error\",\"message\":\"a part of the model could not be read from storage "
                   "(SIGBUS): the file is truncated or the storage failed\"}\n";
            break;
        case SIGILL:
            line = "{\"event\":\"error\",\"message\":\"illegal instruction (SIGILL): built for another CPU than "
                   "this one\"}\n";
            break;
        case SIGSEGV:
            line = "{\"event\":\"error\",\"message\":\"segmentation fault (SIGSEGV)\"}\n";
            break;
        default:
            break;
    }
    const ssize_t ignored = write(STDOUT_FILENO, line, std::strlen(line));
    static_cast<void>(ignored);
    _exit(128 + signal_number);
}

int fail(const std::string & message, int exit_code) {
    std::fprintf(stderr, "edgequant-probe: %s\n", message.c_str());
    try {
        Event("error").text("message", message).write();
    } catch (const std::exception &) {
        // Nobody reads stdout any more; the exit code still tells.
    }
    return exit_code;
}

}  // namespace

int main(int argc, char ** argv) {
    setenv("GGML_NO_BACKTRACE", "1", 1);  // ggml would start a debugger on an abort
    for (const int signal_number : {SIGABRT, SIGBUS, SIGILL, SIGSEGV, SIGFPE}) {
        std::signal(signal_number, report_signal);
    }
    try {
        if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
            Event("version")
                .number("probe_version", int64_t{PROBE_VERSION})
                .text("llama_cpp_commit", EDGEQUANT_LLAMA_CPP_COMMIT)
                .write();
            return 0;
        }
        if (argc == 2 && (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "-h") == 0)) {
            std::fputs(USAGE, stderr);
            return 0;
        }
        const Options options = parse_options(argc, argv);
        llama_log_set(log_to_stderr, nullptr);
        llama_backend_init();
        run(options);
        llama_backend_free();
        return 0;
    } catch (const ProbeFailure & failure) {
        if (failure.exit_code == EXIT_USAGE) {
            std::fputs(USAGE, stderr);
        }
        return fail(failure.what(), failure.exit_code);
    } catch (const std::bad_alloc &) {
        return fail("too little memory", EXIT_FAILED);
    } catch (const std::exception & error) {
        return fail(error.what(), EXIT_FAILED);
    }
}
