/*
 * Grammars of configured texts that later travel in HTTP messages. Pure. A compiled generation is
 * held to the same ones when it is opened.
 */
#ifndef SENTINEL_CONFIG_VALIDATE_TEXT_H
#define SENTINEL_CONFIG_VALIDATE_TEXT_H

#include "base/span.h"

/* A name of ours: letters, digits, `-`, `_` and `.`, at least one. */
bool text_is_name(struct span text);

/* token (RFC 9110, 5.6.2): field names and methods. */
bool text_is_token(struct span text);

/* field-value (RFC 9110, 5.5) without its obsolete parts: no controls but HTAB, no OWS at the ends.
 */
bool text_is_field_value(struct span text);

/* Digits and dots, beginning and ending with a digit. */
bool text_is_version(struct span text);

/* An absolute path with an optional query, of visible ASCII without `#` and backslash. */
bool text_is_target(struct span text);

/* An http(s) URL with a host, or an absolute path that no browser takes for one (`//`). */
bool text_is_location(struct span text);

/* `unix:` and the absolute path of a socket, which names no folder; visible ASCII, spaces. */
bool text_is_unix_socket(struct span text);

/* A SHA-256 in lower-case hexadecimal. */
bool text_is_fingerprint(struct span text);

/*
 * Could be a certificate's subject as it is shown (src/net/tls.h): CN=alice,O=Acme, where what
 * would be misread has a backslash in front.
 */
bool text_is_subject(struct span text);

/* Printable ASCII, spaces included: as texts of certificates are shown (src/net/tls.h). */
bool text_is_printable(struct span text);

/* Has no NUL: fit to be handed to the system as a path. */
bool text_has_no_nul(struct span text);

#endif
