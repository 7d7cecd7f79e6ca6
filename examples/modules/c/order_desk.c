/* The order desk in C: see the README one folder up for what it does. What is answered is freed by the bindings, with free(). */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "typed_module.h"

#define NOTICES "orders.notices"

typedef millstream_module_types_record_t record_t;
typedef millstream_module_types_header_t header_t;
typedef millstream_module_types_output_t output_t;
typedef typed_module_verdict_t verdict_t;
typedef typed_module_string_t string_t;

static struct {
    string_t region, review_topic;
    double review_over;
} config;

/* Memory is never short but by a mistake: a trap then, as for any other. */
static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) abort();
    return memory;
}

static string_t text(const char *at, size_t len) {
    string_t copy = {allocate(len + 1, 1), len};
    memcpy(copy.ptr, at, len);
    return copy;
}

/* One or more texts after another, up to NULL. */
static string_t join(const char *const *parts) {
    size_t len = 0;
    for (const char *const *part = parts; *part; part++) len += strlen(*part);
    string_t all = {allocate(len + 1, 1), 0};
    for (const char *const *part = parts; *part; part++) {
        memcpy(all.ptr + all.len, *part, strlen(*part));
        all.len += strlen(*part);
    }
    return all;
}

#define JOIN(...) join((const char *const[]){__VA_ARGS__, NULL})

static void write_log(millstream_module_log_level_t level, string_t line) {
    millstream_module_log_write(level, &line);
    free(line.ptr);
}

/* The configuration's text field `name`; false with the error where it is none. Texts with escapes are not read. */
static bool text_field(json_t all, const char *name, const char *otherwise, string_t *field, string_t *error) {
    json_t found = json_member(all, name);
    if (found.at == NULL && otherwise != NULL) {
        *field = text(otherwise, strlen(otherwise));
        return true;
    }
    if (found.at == NULL) {
        *error = JOIN("config field `", name, "` is missing");
        return false;
    }
    if (!json_is_string(found) || found.len == 2) {
        *error = JOIN("config field `", name, "` is not a text with something in it");
        return false;
    }
    if (memchr(found.at, '\\', found.len) != NULL) {
        *error = JOIN("config field `", name, "` has an escape: write the character itself");
        return false;
    }
    *field = text(found.at + 1, found.len - 2);
    return true;
}

static bool configure(json_t all, string_t *error) {
    static const char *const known[] = {"region", "review_over", "review_topic", NULL};
    if (!json_is_object(all)) {
        *error = JOIN("config: not an object");
        return false;
    }
    json_t unknown = json_unknown_member(all, known);
    if (unknown.at != NULL) {
        string_t name = text(unknown.at, unknown.len);
        *error = JOIN("config field `", (const char *)name.ptr, "` is unknown");
        free(name.ptr);
        return false;
    }
    config.review_over = 1000;
    json_t over = json_member(all, "review_over");
    if (over.at != NULL && !json_number(over, &config.review_over)) {
        *error = JOIN("config field `review_over` is not a number");
        return false;
    }
    return text_field(all, "region", NULL, &config.region, error) &&
           text_field(all, "review_topic", "orders.review", &config.review_topic, error);
}

bool exports_typed_module_configure(typed_module_setup_t *setup, typed_module_spec_t *spec, string_t *error) {
    bool good = configure((json_t){(const char *)setup->config.ptr, setup->config.len}, error);
    typed_module_setup_free(setup);
    if (!good) return false;
    write_log(MILLSTREAM_MODULE_LOG_LEVEL_INFO, JOIN("orders of ", (const char *)config.region.ptr));
    spec->fields = MILLSTREAM_MODULE_TYPES_FIELDS_PAYLOAD;
    spec->verdicts = MILLSTREAM_MODULE_TYPES_VERDICTS_KEEP | MILLSTREAM_MODULE_TYPES_VERDICTS_DROP |
                     MILLSTREAM_MODULE_TYPES_VERDICTS_EMIT | MILLSTREAM_MODULE_TYPES_VERDICTS_REJECT;
    spec->topics.len = 2;
    spec->topics.ptr = allocate(2, sizeof *spec->topics.ptr);
    spec->topics.ptr[0] = text((char *)config.review_topic.ptr, config.review_topic.len);
    spec->topics.ptr[1] = JOIN(NOTICES);
    return true;
}

static const typed_module_list_u8_t *header(const record_t *record, const char *name) {
    for (size_t i = 0; i < record->headers.len; i++) {
        const header_t *header = &record->headers.ptr[i];
        if (header->name.len == strlen(name) && memcmp(header->name.ptr, name, header->name.len) == 0)
            return &header->value;
    }
    return NULL;
}

static bool equal(const typed_module_list_u8_t *bytes, const void *other, size_t len) {
    return bytes->len == len && memcmp(bytes->ptr, other, len) == 0;
}

static verdict_t reject(const char *reason) {
    verdict_t verdict = {.tag = MILLSTREAM_MODULE_TYPES_VERDICT_REJECT};
    verdict.val.reject = JOIN(reason);
    return verdict;
}

/* So many outputs that inherit everything: what is all zero is inherited. */
static verdict_t emit(size_t count) {
    verdict_t verdict = {.tag = MILLSTREAM_MODULE_TYPES_VERDICT_EMIT};
    verdict.val.emit.ptr = allocate(count, sizeof(output_t));
    verdict.val.emit.len = count;
    return verdict;
}

static verdict_t route(string_t topic) {
    verdict_t verdict = {.tag = MILLSTREAM_MODULE_TYPES_VERDICT_ROUTE};
    verdict.val.route.ptr = allocate(1, sizeof(string_t));
    verdict.val.route.ptr[0] = text((char *)topic.ptr, topic.len);
    verdict.val.route.len = 1;
    return verdict;
}

enum { DIGITS = 21 };

/* The number's digits, somewhere in `buffer`. printf would bring in files, which there are none of. */
static const char *decimal(uint64_t number, char buffer[DIGITS]) {
    char *at = buffer + DIGITS - 1;
    *at = '\0';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    return at;
}

/* The order itself with one header more, and a notice of it. */
static verdict_t express(const record_t *record) {
    verdict_t verdict = emit(2);
    output_t *same = &verdict.val.emit.ptr[0], *notice = &verdict.val.emit.ptr[1];
    same->headers.is_some = true;
    same->headers.val.len = record->headers.len + 1;
    same->headers.val.ptr = allocate(same->headers.val.len, sizeof(header_t));
    for (size_t i = 0; i <= record->headers.len; i++) {
        string_t name, value;
        if (i < record->headers.len) {
            const header_t *source = &record->headers.ptr[i];
            name = text((char *)source->name.ptr, source->name.len);
            value = text((char *)source->value.ptr, source->value.len);
        } else {
            name = JOIN("handled");
            value = JOIN("express");
        }
        same->headers.val.ptr[i] = (header_t){name, {value.ptr, value.len}};
    }

    char offset[DIGITS], timestamp[DIGITS];
    string_t payload = JOIN("express order ", decimal(record->offset, offset), " of ", decimal(record->timestamp, timestamp));
    notice->topic.is_some = true;
    notice->topic.val = JOIN(NOTICES);
    notice->key.tag = MILLSTREAM_MODULE_TYPES_PART_REMOVE;
    notice->headers.is_some = true;
    notice->payload.tag = MILLSTREAM_MODULE_TYPES_PART_SET;
    notice->payload.val.set = (typed_module_list_u8_t){payload.ptr, payload.len};
    return verdict;
}

static verdict_t judge(const record_t *record) {
    if (header(record, "crash") != NULL) {
        /* What is written at this level goes with the fault: a trap itself says nothing. */
        write_log(MILLSTREAM_MODULE_LOG_LEVEL_PANIC, JOIN("a record with the header `crash`"));
        abort();
    }
    verdict_t keep = {.tag = MILLSTREAM_MODULE_TYPES_VERDICT_KEEP};
    if (!record->payload.is_some) return keep;
    const typed_module_list_u8_t *region = header(record, "region");
    if (region != NULL && !equal(region, config.region.ptr, config.region.len))
        return (verdict_t){.tag = MILLSTREAM_MODULE_TYPES_VERDICT_DROP};
    json_t order = {(const char *)record->payload.val.ptr, record->payload.val.len};
    if (!json_is_object(order)) return reject("the payload is not a JSON object");
    double total;
    if (!json_number(json_member(order, "total"), &total)) return reject("`total` is missing or not a number");
    if (total > config.review_over) return route(config.review_topic);
    if (json_equals(json_member(order, "cancelled"), "true")) {
        verdict_t tombstone = emit(1);
        tombstone.val.emit.ptr[0].payload.tag = MILLSTREAM_MODULE_TYPES_PART_REMOVE;
        return tombstone;
    }
    const typed_module_list_u8_t *priority = header(record, "priority");
    return priority != NULL && equal(priority, "express", 7) ? express(record) : keep;
}

bool exports_typed_module_process_records(uint64_t now, typed_module_list_record_t *records,
                                          typed_module_list_verdict_t *verdicts, typed_module_failure_t *failure) {
    verdicts->len = records->len;
    verdicts->ptr = allocate(records->len, sizeof(verdict_t));
    for (size_t i = 0; i < records->len; i++) verdicts->ptr[i] = judge(&records->ptr[i]);
    typed_module_list_record_free(records);
    return true;
}
