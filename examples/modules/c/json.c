#include "json.h"

#include <stdlib.h>
#include <string.h>

/* What is left of a text. */
typedef struct {
    const char *at, *end;
} reader_t;

static bool value(reader_t *in, int depth);

static void space(reader_t *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) in->at++;
}

static bool take(reader_t *in, char wanted) {
    if (in->at >= in->end || *in->at != wanted) return false;
    in->at++;
    return true;
}

static bool word(reader_t *in, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

static bool digits(reader_t *in) {
    const char *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') in->at++;
    return in->at > start;
}

static bool number(reader_t *in) {
    take(in, '-');
    if (!take(in, '0') && !digits(in)) return false;
    if (take(in, '.') && !digits(in)) return false;
    if (take(in, 'e') || take(in, 'E')) {
        if (!take(in, '+')) take(in, '-');
        return digits(in);
    }
    return true;
}

/* One character of UTF-8 beyond ASCII: no overlong forms, no surrogates, none above U+10FFFF. */
static bool beyond_ascii(reader_t *in) {
    const unsigned char *at = (const unsigned char *)in->at;
    size_t left = (size_t)(in->end - in->at), len = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] < 0xc2 || at[0] > 0xf4 || left < len) return false;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80) return false;
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f)) return false;
    if ((at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)) return false;
    in->at += len;
    return true;
}

static bool escape(reader_t *in) {
    if (in->at >= in->end) return false;
    char c = *in->at++;
    if (c != 'u') return strchr("\"\\/bfnrt", c) != NULL && c != '\0';
    for (int i = 0; i < 4; i++, in->at++)
        if (in->at >= in->end || !strchr("0123456789abcdefABCDEF", *in->at) || *in->at == '\0') return false;
    return true;
}

static bool string(reader_t *in) {
    if (!take(in, '"')) return false;
    while (in->at < in->end) {
        unsigned char c = (unsigned char)*in->at;
        if (c < 0x20) return false;
        if (c >= 0x80) {
            if (!beyond_ascii(in)) return false;
            continue;
        }
        in->at++;
        if (c == '"') return true;
        if (c == '\\' && !escape(in)) return false;
    }
    return false;
}

static bool array(reader_t *in, int depth) {
    space(in);
    if (take(in, ']')) return true;
    do {
        if (!value(in, depth)) return false;
    } while (take(in, ','));
    return take(in, ']');
}

/* Told of each member of an object; false ends the reading. */
typedef bool member_fn(void *context, json_t name, json_t member);

static bool object(reader_t *in, int depth, member_fn *each, void *context) {
    space(in);
    if (take(in, '}')) return true;
    do {
        space(in);
        json_t name = {in->at, 0}, member;
        if (!string(in)) return false;
        name.len = (size_t)(in->at - name.at);
        space(in);
        if (!take(in, ':')) return false;
        space(in);
        member.at = in->at;
        if (!value(in, depth)) return false;
        member.len = (size_t)(in->at - member.at);
        while (member.len > 0 && strchr(" \t\r\n", member.at[member.len - 1]) != NULL) member.len--;
        if (each && !each(context, name, member)) return false;
    } while (take(in, ','));
    return take(in, '}');
}

/* A value and the space around it. */
static bool value(reader_t *in, int depth) {
    bool good;
    if (depth >= JSON_DEPTH_MAX) return false;
    space(in);
    if (in->at >= in->end) return false;
    switch (*in->at) {
    case '{': in->at++; good = object(in, depth + 1, NULL, NULL); break;
    case '[': in->at++; good = array(in, depth + 1); break;
    case '"': good = string(in); break;
    case 't': good = word(in, "true"); break;
    case 'f': good = word(in, "false"); break;
    case 'n': good = word(in, "null"); break;
    default: good = number(in);
    }
    space(in);
    return good;
}

static bool members(json_t text, member_fn *each, void *context) {
    reader_t in = {text.at, text.at + text.len};
    space(&in);
    if (!take(&in, '{') || !object(&in, 1, each, context)) return false;
    space(&in);
    return in.at == in.end;
}

bool json_is_object(json_t text) { return members(text, NULL, NULL); }

typedef struct {
    const char *wanted;
    json_t found;
} search_t;

static bool is_called(json_t name, const char *wanted) {
    return name.len == strlen(wanted) + 2 && memcmp(name.at + 1, wanted, name.len - 2) == 0;
}

static bool find(void *context, json_t name, json_t member) {
    search_t *search = context;
    if (is_called(name, search->wanted)) search->found = member;
    return true;
}

json_t json_member(json_t text, const char *name) {
    search_t search = {name, {NULL, 0}};
    members(text, find, &search);
    return search.found;
}

typedef struct {
    const char *const *known;
    json_t unknown;
} strangers_t;

static bool is_known(void *context, json_t name, json_t member) {
    strangers_t *strangers = context;
    (void)member;
    for (const char *const *known = strangers->known; *known; known++)
        if (is_called(name, *known)) return true;
    strangers->unknown = (json_t){name.at + 1, name.len - 2};
    return false;
}

json_t json_unknown_member(json_t text, const char *const *known) {
    strangers_t strangers = {known, {NULL, 0}};
    members(text, is_known, &strangers);
    return strangers.unknown;
}

bool json_is_string(json_t value) { return value.len >= 2 && value.at[0] == '"'; }

bool json_number(json_t value, double *number) {
    char digits[64];
    if (value.at == NULL || value.len == 0 || value.len >= sizeof digits) return false;
    if (value.at[0] != '-' && (value.at[0] < '0' || value.at[0] > '9')) return false;
    memcpy(digits, value.at, value.len);
    digits[value.len] = '\0';
    *number = strtod(digits, NULL);
    return true;
}

bool json_equals(json_t value, const char *text) {
    return value.at != NULL && value.len == strlen(text) && memcmp(value.at, text, value.len) == 0;
}
