/* Reading one member of a JSON object in place: strict, allocates nothing, and nests no deeper than JSON_DEPTH_MAX. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 128 };

/* A value within a text: its first character tells what it is. */
typedef struct {
    const char *at;
    size_t len;
} json_t;

/* Whether `text` is one JSON object and nothing else. */
bool json_is_object(json_t text);

/* The last member called `name` of the object `text`; `at` is NULL if it has none. Names with escapes are not looked into. */
json_t json_member(json_t text, const char *name);

/* The name of the first member that is none of `known`, a list that ends with NULL; `at` is NULL if there is none. */
json_t json_unknown_member(json_t text, const char *const *known);

bool json_is_string(json_t value);

/* Whether `value` is a number; then `number` is it. */
bool json_number(json_t value, double *number);

bool json_equals(json_t value, const char *text);

#endif
