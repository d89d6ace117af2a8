/* A plugin for qemu-user: how often each block of a program's instructions was executed.
 *
 * At the end it writes one line for each block: address (hexadecimal), instructions in it, times
 * it was executed. One thread only: the counters are not atomic.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is used of qemu's plugin interface, version 1; distributions do not ship its header. */
typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
enum { ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *tb, int operation, void *counter, uint64_t value);
void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

#define EXPORTED __attribute__((visibility("default")))
#define SLOTS 65536

EXPORTED int qemu_plugin_version = 1;

struct block {
    uint64_t address, instructions, count;
    struct block *next;
};

static struct block *slots[SLOTS];
static FILE *out;

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void) id;
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    const uint64_t instructions = qemu_plugin_tb_n_insns(tb);
    struct block **slot = &slots[(address / 4 * 31 + instructions) % SLOTS];
    struct block *block = *slot;
    /* qemu forgets translations when its buffer is full: the same block comes again. */
    while (block != NULL && (block->address != address || block->instructions != instructions)) {
        block = block->next;
    }
    if (block == NULL) {
        block = calloc(1, sizeof *block);
        if (block == NULL) {
            abort();
        }
        block->address = address;
        block->instructions = instructions;
        block->next = *slot;
        *slot = block;
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->count, 1);
}

static void on_exit_of_program(qemu_plugin_id_t id, void *data) {
    (void) id;
    (void) data;
    for (size_t i = 0; i < SLOTS; ++i) {
        for (const struct block *block = slots[i]; block != NULL; block = block->next) {
            fprintf(out, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n",
                block->address, block->instructions, block->count);
        }
    }
    fclose(out);
}

EXPORTED int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void) info;
    for (int i = 0; i < argc; ++i) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (out == NULL) {
        fputs("count_blocks: no file to write to: out=FILE\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit_of_program, NULL);
    return 0;
}
