#include "config/compile_certificate.h"

#include <errno.h>

#include "base/assert.h"

enum { BUNDLES_MAX = 128, PATH_MAX_BYTES = 4096 };

/* Where systems keep the CAs that they trust: Debian and Alpine; Fedora and Red Hat; OpenSSL. */
static const char *const system_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

/* A pair that has been read, or refused. Paths are resolved. */
struct pair {
    struct span file;
    struct span key;
    struct span ocsp;
    enum certificate_use use;
    bool refused;
    struct certificate_entry entry;
};

struct bundle {
    struct span path;
    struct ref text; /* empty: it was refused */
};

struct certificate_set {
    struct pair pairs[GENERATION_CERTIFICATES_MAX];
    uint32_t pairs_count;
    struct generation_certificate records[GENERATION_CERTIFICATES_MAX];
    uint32_t count;
    struct bundle bundles[BUNDLES_MAX];
    uint32_t bundles_count;
    struct findings findings; /* of the file that is being read; too large for a frame */
    uint8_t *scratch;         /* of the secrets' arena: what a file holds */
};

enum { SCRATCH_SIZE = CERTIFICATE_AUTHORITIES_MAX };

struct certificate_set *certificate_set_create(struct compilation *compilation)
{
    struct secrets_builder *secrets = compilation->validator.environment->secrets;
    struct certificate_set *set = compile_scratch(compilation, 1, sizeof(*set));
    ASSERT(secrets != NULL); /* who lets files be read gives keys their place */
    if (set == NULL || (set->scratch = arena_alloc(&secrets->arena, SCRATCH_SIZE)) == NULL) {
        return NULL;
    }
    return set;
}

/* ---- Files ---- */

/* A path relative to the file that names it; NUL-terminated. NULL data when the arena is full. */
static struct span resolve(struct compilation *compilation, const struct setting_value *value)
{
    struct arena *arena = compilation->validator.arena;
    struct span name = value->position.source->name;
    size_t folder = name.size;
    while (folder > 0 && name.data[folder - 1] != '/') {
        folder--;
    }
    if (span_starts_with(value->text, SPAN("/"))) {
        folder = 0;
    }
    struct span path = arena_printf(arena, "%.*s%.*s", SPAN_ARGS(span_first(name, folder)),
                                    SPAN_ARGS(value->text));
    compilation->no_room |= path.data == NULL;
    return path;
}

static void report_unreadable(struct compilation *compilation, struct position position,
                              struct span path, int error, size_t maximum)
{
    const char *help = error == EACCES   ? "Sentinel reads it as the user who starts it"
                       : error == ENOENT ? "a relative path is relative to this file's folder"
                                         : NULL;
    if (error == EFBIG) {
        COMPILE_ERROR(compilation, position, help, "cannot read %.*s: it is larger than %zu KiB",
                      SPAN_ARGS(path), maximum / 1024);
    } else {
        COMPILE_ERROR(compilation, position, help, "cannot read %.*s: %s", SPAN_ARGS(path),
                      error == EINVAL ? "it is no regular file" : strerror(error));
    }
}

static void wipe(struct certificate_set *set, size_t size)
{
    explicit_bzero(set->scratch, size);
}

/* Reads a file into the scratch. False: reported. Whoever reads wipes. */
static bool read_file(struct compilation *compilation, struct certificate_set *set,
                      const struct setting_value *value, struct span path, size_t maximum,
                      struct file_content *content)
{
    ASSERT(maximum <= SCRATCH_SIZE);
    set->findings.count = 0;
    if (path.data == NULL) {
        return false;
    }
    int error = compilation->validator.environment->read_file((const char *)path.data, set->scratch,
                                                              maximum, content);
    if (error != 0) {
        wipe(set, maximum); /* it may have been read in part */
        report_unreadable(compilation, value->position, path, error, maximum);
    }
    return error == 0;
}

/* Reports what was found in a file. False when there is an error among it. */
static bool report(struct compilation *compilation, struct position position, struct span path,
                   const struct findings *findings)
{
    bool good = true;
    bool is_expired_bad = compilation->validator.environment->refuses_expired;
    for (uint32_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->items[i];
        bool is_error =
            finding->kind == FINDING_ERROR || (finding->kind == FINDING_EXPIRED && is_expired_bad);
        diagnostics_add(compilation->validator.diagnostics,
                        is_error ? SEVERITY_ERROR : SEVERITY_WARNING, position, finding->help,
                        "%.*s %s", SPAN_ARGS(path), finding->text);
        good &= !is_error;
    }
    return good;
}

/* ---- A pair ---- */

/* One pair while it is read. */
struct work {
    struct compilation *compilation;
    struct certificate_set *set;
    const struct certificate_request *request;
    struct pair *pair;
    struct certificate certificate;
    struct generation_certificate record;
    bool good;
};

static void read_chain(struct work *work)
{
    struct file_content content;
    const struct setting_value *value = work->request->file;
    work->good = read_file(work->compilation, work->set, value, work->pair->file,
                           CERTIFICATE_FILE_MAX, &content);
    if (!work->good) {
        return;
    }
    enum status status =
        certificate_read(&work->certificate, span_of(work->set->scratch, content.size),
                         work->request->use, work->compilation->validator.environment->now,
                         work->compilation->validator.arena, &work->set->findings);
    wipe(work->set, content.size);
    work->good = report(work->compilation, value->position, work->pair->file, &work->set->findings);
    work->good &= status == OK;
}

/* Anybody on the machine who can read the key can be this host. */
static void check_mode(struct work *work, const struct setting_value *value, uint32_t mode)
{
    if ((mode & 07) != 0) {
        COMPILE_WARNING(work->compilation, value->position, "chmod 600, or 640",
                        "%.*s holds a private key and is open to everybody on this machine",
                        SPAN_ARGS(work->pair->key));
    }
}

static void read_key(struct work *work)
{
    struct file_content content;
    struct secrets_builder *secrets = work->compilation->validator.environment->secrets;
    const struct setting_value *value =
        work->request->key != NULL ? work->request->key : work->request->file;
    struct span key = SPAN_EMPTY;
    if (!read_file(work->compilation, work->set, value, work->pair->key, CERTIFICATE_FILE_MAX,
                   &content)) {
        work->good = false;
        return;
    }
    check_mode(work, value, content.mode);
    enum status status =
        certificate_read_key(&work->certificate, span_of(work->set->scratch, content.size),
                             &secrets->arena, &key, &work->set->findings);
    wipe(work->set, content.size);
    work->good &= report(work->compilation, value->position, work->pair->key, &work->set->findings);
    if (status != OK || key.size > SECRETS_KEY_MAX) {
        if (work->set->findings.count == 0) {
            COMPILE_ERROR(work->compilation, value->position, NULL, "%.*s holds a key too large",
                          SPAN_ARGS(work->pair->key));
        }
        work->good = false;
        return;
    }
    secrets->keys[work->set->count] = key;
}

static void read_ocsp(struct work *work)
{
    struct file_content content;
    const struct setting_value *value = work->request->ocsp;
    if (!read_file(work->compilation, work->set, value, work->pair->ocsp, CERTIFICATE_OCSP_MAX,
                   &content)) {
        work->good = false;
        return;
    }
    struct span der = span_of(work->set->scratch, content.size);
    if (certificate_read_ocsp(&work->certificate, der,
                              work->compilation->validator.environment->now,
                              &work->record.ocsp_until, &work->set->findings) == OK) {
        work->record.ocsp = builder_text(&work->compilation->builder, der);
    }
    wipe(work->set, content.size);
    work->good &=
        report(work->compilation, value->position, work->pair->ocsp, &work->set->findings);
}

/* The last part of a path. */
static struct span base_name(struct span path)
{
    size_t start = path.size;
    while (start > 0 && path.data[start - 1] != '/') {
        start--;
    }
    return span_from(path, start);
}

static struct ref build_names(struct compilation *compilation,
                              const struct certificate *certificate)
{
    struct ref *names = compile_scratch(compilation, certificate->names_count, sizeof(*names));
    for (uint32_t i = 0; names != NULL && i < certificate->names_count; i++) {
        names[i] = builder_text(&compilation->builder, certificate->names[i]);
    }
    return names == NULL ? (struct ref){0}
                         : builder_array(&compilation->builder, names, sizeof(*names),
                                         certificate->names_count);
}

/* A path may hold bytes that would not be fit for a label; then it has none better. */
static struct span shown_name(const struct certificate *certificate, struct span path)
{
    if (certificate->name.size > 0) {
        return certificate->name;
    }
    struct span name = base_name(path);
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] <= ' ' || name.data[i] >= 0x7F) {
            return SPAN("certificate");
        }
    }
    return name.size > 0 ? name : SPAN("certificate");
}

static void keep(struct work *work)
{
    struct compilation *compilation = work->compilation;
    struct certificate *certificate = &work->certificate;
    struct span chain = certificate_pem(certificate, compilation->validator.arena);
    compilation->no_room |= chain.size == 0;
    work->record.name =
        builder_text(&compilation->builder, shown_name(certificate, work->pair->file));
    work->record.file = builder_text(&compilation->builder, work->pair->file);
    work->record.names = build_names(compilation, certificate);
    work->record.chain = builder_text(&compilation->builder, chain);
    work->record.key_type = certificate->key_type;
    work->record.key_bits = certificate->key_bits;
    work->record.not_before = certificate->not_before;
    work->record.not_after = certificate->not_after;
    work->record.place = compile_place(compilation, work->request->file->position);
    work->pair->entry = (struct certificate_entry){
        .index = work->set->count,
        .key_type = certificate->key_type,
        .file = work->request->file->text,
        .names = certificate->names,
        .names_count = certificate->names_count,
    };
    work->set->records[work->set->count++] = work->record;
}

static void read_pair(struct compilation *compilation, struct certificate_set *set,
                      const struct certificate_request *request, struct pair *pair)
{
    struct work work = {.compilation = compilation, .set = set, .request = request, .pair = pair};
    read_chain(&work);
    if (work.certificate.count > 0) {
        read_key(&work);
        if (request->ocsp != NULL) {
            read_ocsp(&work);
        }
    }
    if (work.good) {
        keep(&work);
    }
    pair->refused = !work.good;
    certificate_free(&work.certificate);
}

const struct certificate_entry *certificate_set_take(struct compilation *compilation,
                                                     struct certificate_set *set,
                                                     const struct certificate_request *request)
{
    struct pair wanted = {.use = request->use, .file = resolve(compilation, request->file)};
    wanted.key = request->key == NULL ? wanted.file : resolve(compilation, request->key);
    wanted.ocsp = request->ocsp == NULL ? SPAN_EMPTY : resolve(compilation, request->ocsp);
    for (uint32_t i = 0; i < set->pairs_count; i++) {
        struct pair *pair = &set->pairs[i];
        if (pair->use == wanted.use && span_equal(pair->file, wanted.file) &&
            span_equal(pair->key, wanted.key) && span_equal(pair->ocsp, wanted.ocsp)) {
            return pair->refused ? NULL : &pair->entry;
        }
    }
    if (set->pairs_count == GENERATION_CERTIFICATES_MAX) {
        COMPILE_ERROR(compilation, request->file->position, NULL,
                      "there are more than %d certificates", GENERATION_CERTIFICATES_MAX);
        return NULL;
    }
    struct pair *pair = &set->pairs[set->pairs_count++];
    *pair = wanted;
    read_pair(compilation, set, request, pair);
    return pair->refused ? NULL : &pair->entry;
}

/* ---- Bundles ---- */

/* The place of a bundle; *known is whether it has been read. NULL: there are too many, reported. */
static struct bundle *find_bundle(struct compilation *compilation, struct certificate_set *set,
                                  struct position position, struct span path, bool *known)
{
    for (uint32_t i = 0; i < set->bundles_count; i++) {
        if (span_equal(set->bundles[i].path, path)) {
            *known = true;
            return &set->bundles[i];
        }
    }
    if (set->bundles_count == BUNDLES_MAX) {
        COMPILE_ERROR(compilation, position, NULL, "there are more than %d bundles of CAs",
                      BUNDLES_MAX);
        return NULL;
    }
    *known = false;
    set->bundles[set->bundles_count] = (struct bundle){.path = path};
    return &set->bundles[set->bundles_count++];
}

/* Reads what is in the scratch. */
static void read_bundle(struct compilation *compilation, struct certificate_set *set,
                        struct position position, size_t size, struct bundle *bundle)
{
    struct span text = SPAN_EMPTY;
    set->findings.count = 0;
    enum status status = certificate_read_authorities(
        span_of(set->scratch, size), compilation->validator.environment->now,
        compilation->validator.arena, &text, &set->findings);
    wipe(set, size); /* somebody may keep keys in it, too */
    bool good = report(compilation, position, bundle->path, &set->findings);
    if (good && status == OK) {
        bundle->text = builder_text(&compilation->builder, text);
    } else if (set->findings.count == 0) {
        compilation->no_room = true;
    }
}

struct ref certificate_set_bundle(struct compilation *compilation, struct certificate_set *set,
                                  const struct setting_value *file)
{
    bool known = false;
    struct file_content content;
    struct span path = resolve(compilation, file);
    struct bundle *bundle = find_bundle(compilation, set, file->position, path, &known);
    if (bundle == NULL) {
        return (struct ref){0};
    }
    if (!known && read_file(compilation, set, file, path, CERTIFICATE_AUTHORITIES_MAX, &content)) {
        read_bundle(compilation, set, file->position, content.size, bundle);
    }
    return bundle->text;
}

struct ref certificate_set_system(struct compilation *compilation, struct certificate_set *set,
                                  struct position position)
{
    const struct environment *environment = compilation->validator.environment;
    for (size_t i = 0; i < sizeof(system_bundles) / sizeof(system_bundles[0]); i++) {
        bool known = false;
        struct file_content content;
        int error = environment->read_file(system_bundles[i], set->scratch, SCRATCH_SIZE, &content);
        if (error == ENOENT) {
            continue;
        }
        struct span path = span_of_string(system_bundles[i]);
        struct bundle *bundle = find_bundle(compilation, set, position, path, &known);
        if (bundle == NULL || known) {
            return bundle == NULL ? (struct ref){0} : bundle->text;
        }
        if (error != 0) {
            report_unreadable(compilation, position, path, error, SCRATCH_SIZE);
        } else {
            read_bundle(compilation, set, position, content.size, bundle);
        }
        return bundle->text;
    }
    COMPILE_ERROR(compilation, position, "install ca-certificates, or name a bundle: ca \"...\"",
                  "this system has no bundle of CAs to verify endpoints with");
    return (struct ref){0};
}

struct ref certificate_set_finish(struct compilation *compilation,
                                  const struct certificate_set *set)
{
    return builder_array(&compilation->builder, set->records, sizeof(set->records[0]), set->count);
}
