/*
 * The option table (schema.def) as data: static, the same in every process, read by the validator,
 * by the explanations and by the checks of a compiled generation.
 */
#ifndef SENTINEL_CONFIG_SCHEMA_H
#define SENTINEL_CONFIG_SCHEMA_H

#include "base/span.h"
#include "base/status.h"

enum schema_block_id {
#define BLOCK(id, parent, name, flags, maximum, doc) BLOCK_##id,
#define KEY(block, id, name, form, type, flags, minimum, maximum, standard, detail, example, doc)
#include "config/schema.def"
#undef BLOCK
#undef KEY
    SCHEMA_BLOCKS
};

enum schema_key_id {
#define BLOCK(id, parent, name, flags, maximum, doc)
#define KEY(block, id, name, form, type, flags, minimum, maximum, standard, detail, example, doc)  \
    KEY_##block##_##id,
#include "config/schema.def"
#undef BLOCK
#undef KEY
    SCHEMA_KEYS
};

enum schema_form { FORM_CHILD, FORM_PROPERTY, FORM_EITHER, FORM_ARGUMENT };

enum schema_type {
    TYPE_BOOLEAN,
    TYPE_INTEGER,
    TYPE_REDIRECT_STATUS,
    TYPE_DURATION, /* microseconds */
    TYPE_SIZE,     /* bytes */
    TYPE_CHOICE,   /* the index of the choice */
    TYPE_TEXT,     /* anything */
    TYPE_NAME,     /* letters, digits, `-`, `_`, `.` */
    TYPE_TOKEN,    /* RFC 9110, 5.6.2 */
    TYPE_VERSION,  /* digits and dots */
    TYPE_FIELD,    /* a field name, then a field value */
    TYPE_FIELD_VALUE,
    TYPE_CONDITION_HEADER, /* a field name, then field values */
    TYPE_CONDITION_QUERY,  /* a non-empty name, then any texts */
    TYPE_SUBJECT,          /* of a certificate, as RFC 4514 writes it */
    TYPE_SAN,              /* DNS:, email:, URI: or IP: and a name of a certificate */
    TYPE_FINGERPRINT,      /* of a certificate: SHA-256, lower case without colons */
    TYPE_PATH,             /* canonical once merge-slashes is known */
    TYPE_TARGET_PATH,      /* a request target in origin form, query allowed */
    TYPE_LOCATION,
    TYPE_HOST,         /* a host without port, lower case */
    TYPE_HOST_PATTERN, /* a host, or `*.` and a host */
    TYPE_AUTHORITY,    /* a host, maybe with a port */
    TYPE_ADDRESS,
    TYPE_ADDRESS_OR_OFF,
    TYPE_TARGET, /* an address, or name:port */
    TYPE_NETWORK,
    TYPE_LOG_TARGET,
    TYPE_FILE_OR_OFF,
    TYPE_FILE,   /* a path, maybe relative to the file that names it */
    TYPE_SAMPLE, /* a status, a class of them or 0 for none; then a rate in millionths */
    SCHEMA_TYPES
};

enum schema_flag {
    SCHEMA_REQUIRED = 1,
    SCHEMA_REPEATED = 2,     /* may stand several times in its block */
    SCHEMA_LIST = 4,         /* a child with one value or more */
    SCHEMA_PAIR = 8,         /* a child with exactly two values */
    SCHEMA_ALTERNATIVE = 16, /* exactly one of these and `upstream` in a route */
    SCHEMA_REFUSED = 32,     /* validated, then refused: not in this build */
    SCHEMA_MACHINE = 64,     /* may be refused on another machine: a comment in the example */
};

enum {
    SCHEMA_LIST_MAX = 64,   /* values of one list */
    SCHEMA_PATH_MAX = 128,  /* bytes of a printed path, NUL included */
    SCHEMA_NUMBER_MAX = 32, /* bytes of a printed number with unit, NUL included */
};

struct schema_block {
    enum schema_block_id id;
    enum schema_block_id parent; /* BLOCK_TOP is its own */
    const char *name;
    unsigned flags;   /* enum schema_flag */
    uint32_t maximum; /* how often it may stand in its parent */
    const char *doc;
};

struct schema_key {
    enum schema_key_id id;
    enum schema_block_id block;
    const char *name;
    enum schema_form form;
    enum schema_type type;
    unsigned flags; /* enum schema_flag */
    int64_t minimum;
    int64_t maximum;
    const char *standard; /* the default as one would write it, unquoted; NULL: none */
    const char *detail;
    const char *example; /* NULL: the default */
    const char *doc;
};

/* The row of an id; asserts that it is in range. Static. */
const struct schema_block *schema_block(enum schema_block_id id);
const struct schema_key *schema_key(enum schema_key_id id);

/* The key of that name in that block, or NULL. Arguments have no name to be found by. */
const struct schema_key *schema_find_key(enum schema_block_id block, struct span name);

/* The block of that name directly in that block, or NULL. */
const struct schema_block *schema_find_block(enum schema_block_id parent, struct span name);

/* The block's key in argument position `index`, or NULL. */
const struct schema_key *schema_argument(enum schema_block_id block, size_t index);

/* Prints where a block stands, such as `server.timeouts`, NUL-terminated; "" for the top. */
void schema_block_path(enum schema_block_id id, char separator, char path[SCHEMA_PATH_MAX]);

/* A choice's index among `detail`'s; false when it is none of them. */
NODISCARD bool schema_choice(const struct schema_key *key, struct span text, int64_t *index);

/* How many choices there are. */
int64_t schema_choices(const struct schema_key *key);

/* The choice of that index, which must exist. Static. */
struct span schema_choice_text(const struct schema_key *key, int64_t index);

/* The default of a key that has one and whose type is a number, boolean or choice. */
int64_t schema_default(const struct schema_key *key);

/* Whether a value of such a key is inside the row's range. */
bool schema_in_range(enum schema_key_id id, uint64_t value);

/* The statuses a redirect may have: those that name another place (RFC 9110, 15.4). */
bool schema_is_redirect(int64_t status);

/* Prints a number of the key as one would write it: 30s, 8KiB, 4, true. NUL-terminated. */
void schema_print_number(const struct schema_key *key, int64_t number,
                         char text[SCHEMA_NUMBER_MAX]);

/* The name of a type for people ("duration"). Static. */
const char *schema_type_name(enum schema_type type);

/* Whether values of the type are numbers, so that minimum and maximum bound the value itself. */
bool schema_type_is_number(enum schema_type type);

/* How reading a quantity ended. */
enum quantity {
    QUANTITY_OK,
    QUANTITY_NOT_A_NUMBER, /* nor a whole one */
    QUANTITY_NO_UNIT,      /* a duration or size other than 0 needs one */
    QUANTITY_BAD_UNIT,
    QUANTITY_TOO_LARGE, /* more than 63 bits */
};

/*
 * Reads a number of the type (INTEGER, REDIRECT_STATUS, DURATION, SIZE) from its digits, as KDL
 * writes them (sign, `_`, 0x, 0o, 0b), and its unit. *number is in microseconds or bytes.
 */
NODISCARD enum quantity schema_quantity(enum schema_type type, struct span digits, struct span unit,
                                        int64_t *number);

/* Divides `30s` into its digits and its unit. */
void schema_split_quantity(struct span text, struct span *digits, struct span *unit);

#endif
