#include "http/websocket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_accept(const char *key, const char *expected)
{
    uint8_t accept[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept(span_of_string(key), accept);
    assert_memory_equal(accept, expected, sizeof(accept));
}

/* Of RFC 6455, 1.3; and two that were made with the sha1sum of coreutils. */
static void a_key_is_accepted_as_the_standard_says(void **state)
{
    (void)state;
    assert_accept("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_accept("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI=");
    assert_accept("/////////////////////w==", "XXpj4jYzLM2yUE0C7TIgMwTQh2g=");
}

static void a_key_is_16_bytes_in_base64(void **state)
{
    (void)state;
    assert_true(websocket_is_key(SPAN("dGhlIHNhbXBsZSBub25jZQ==")));
    assert_false(websocket_is_key(SPAN("")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZSBub25jZQ=")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZSBub25jZQ===")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZSBub25jZQ=A")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZSBub25jZR=="))); /* bits of a 17th byte */
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZ-Bub25jZQ==")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZ\0Bub25jZQ==")));
    assert_false(websocket_is_key(SPAN("dGhlIHNhbXBsZ=Bub25jZQ==")));
}

static void a_key_that_is_made_is_one(void **state)
{
    (void)state;
    uint8_t nonce[WEBSOCKET_NONCE_SIZE];
    uint8_t key[WEBSOCKET_KEY_SIZE];
    memcpy(nonce, "the sample nonce", sizeof(nonce));
    websocket_make_key(nonce, key);
    assert_memory_equal(key, "dGhlIHNhbXBsZSBub25jZQ==", sizeof(key));
    memset(nonce, 0xFF, sizeof(nonce));
    websocket_make_key(nonce, key);
    assert_memory_equal(key, "/////////////////////w==", sizeof(key));
    assert_true(websocket_is_key(span_of(key, sizeof(key))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_accepted_as_the_standard_says),
        cmocka_unit_test(a_key_is_16_bytes_in_base64),
        cmocka_unit_test(a_key_that_is_made_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
