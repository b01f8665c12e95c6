/*
 * A disk that fails as it is told, and a wall clock that is wrong: between a program and the kernel, by LD_PRELOAD.
 *
 *   FAULTS_BELOW  only files below this folder (absolute, no links in it) are touched
 *   FAULTS_PLAN   a file of rules, read again whenever another one takes its place; counting then begins anew
 *
 * What was done to the program is in FAULTS_PLAN.log, a line each. A rule is one line:
 *
 *   OPERATION GLOB WHICH ACTION [NUMBER]      such as   sync state.json 2 lose   or   any * 17+ EIO
 *   clock SECONDS                             the wall clock is so far ahead
 *
 *   OPERATION  open (for writing, or mkdir), read, write, sync, truncate, unlink, rename; any is each of them but read
 *   GLOB       of the path below the folder; * also matches a slash
 *   WHICH      3 is the third that matches, 3+ the third and all after it
 *   ACTION     EIO ENOSPC EROFS EACCES EDQUOT EMFILE: it fails with that
 *              lose         sync fails with EIO, what was not yet synced is zero, and the next sync says that all is well
 *              lie          it says that it was done, and was not
 *              half         write takes the first half
 *              room N       write takes N bytes in all, then ENOSPC, also in the middle of a call
 *              wait N       it takes N ms longer
 *              die-before, die-after     SIGKILL at that moment
 *              dark-before N, dark-after N  the power goes: what was not synced is lost in a way that the number N
 *                           decides; 0 loses all of it
 *
 * Operations below the folder exclude each other, so that a moment is a moment.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum operation { OPEN, READ, WRITE, SYNC, TRUNCATE, UNLINK, RENAME, ANY };
static const char *const operations[] = {"open", "read", "write", "sync", "truncate", "unlink", "rename", "any"};

enum action { NOTHING, FAIL, LOSE, LIE, HALF, ROOM, WAIT, DIE_BEFORE, DIE_AFTER, DARK_BEFORE, DARK_AFTER };
static const char *const actions[] = {"",     "",           "lose",      "lie",         "half",      "room",
                                      "wait", "die-before", "die-after", "dark-before", "dark-after"};

struct rule {
    enum operation operation;
    char glob[128];
    long first, last, seen;
    enum action action;
    int error;
    long number;
};

/* What a power cut would take from a file. */
struct file {
    dev_t device;
    ino_t inode;
    ino_t parent; /* Not 0: its name is not synced yet. */
    int ranges;
    struct { off_t from, to; } dirty[16];
};

#define RULES 32
#define FILES 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES];
static int rule_count;
static struct timespec plan_time;
static ino_t plan_inode;
static struct file files[FILES];
static int file_count;
static const char *below, *plan;
static size_t below_length;
static _Atomic long clock_ahead;

__attribute__((constructor)) static void begin(void) {
    below = getenv("FAULTS_BELOW");
    plan = getenv("FAULTS_PLAN");
    below_length = below ? strlen(below) : 0;
}

/* The real ones. Nothing of this file is called by them. */

static int raw_open(int folder, const char *path, int flags, mode_t mode) {
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

static long raw_clock(clockid_t which, struct timespec *out) { return syscall(SYS_clock_gettime, which, out); }

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* The plan. */

static const struct { const char *name; int error; } errors[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EACCES", EACCES}, {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE}};
#define ERRORS (sizeof errors / sizeof *errors)

static int error_of(const char *name) {
    for (size_t at = 0; at < ERRORS; at++)
        if (!strcmp(errors[at].name, name))
            return errors[at].error;
    return 0;
}

static const char *name_of(const struct rule *rule) {
    for (size_t at = 0; at < ERRORS; at++)
        if (errors[at].error == rule->error)
            return errors[at].name;
    return actions[rule->action];
}

static int read_rule(const char *line, struct rule *rule) {
    char operation[16], which[32], action[32];
    memset(rule, 0, sizeof *rule);
    if (sscanf(line, "%15s %127s %31s %31s %ld", operation, rule->glob, which, action, &rule->number) < 4)
        return 0;
    char *rest;
    rule->first = strtol(which, &rest, 10);
    rule->last = *rest == '+' ? LONG_MAX : rule->first;
    int found = 0;
    for (int at = 0; at <= ANY; at++)
        if (!strcmp(operations[at], operation))
            rule->operation = (enum operation)at, found = 1;
    rule->error = error_of(action);
    rule->action = rule->error ? FAIL : NOTHING;
    for (int at = LOSE; at <= DARK_AFTER; at++)
        if (!strcmp(actions[at], action))
            rule->action = (enum action)at;
    return found && rule->first > 0 && rule->action != NOTHING;
}

/* A plan that cannot be understood would let a test pass that tests nothing. */
static void refuse(const char *line) {
    dprintf(2, "fault.c does not understand: %s\n", line);
    abort();
}

static void read_plan(void) {
    struct stat now;
    if (!plan || syscall(SYS_newfstatat, AT_FDCWD, plan, &now, 0) != 0)
        return;
    if (now.st_ino == plan_inode && now.st_mtim.tv_sec == plan_time.tv_sec && now.st_mtim.tv_nsec == plan_time.tv_nsec)
        return;
    char text[8192];
    int from = raw_open(AT_FDCWD, plan, O_RDONLY | O_CLOEXEC, 0);
    if (from < 0)
        return;
    long length = syscall(SYS_read, from, text, sizeof text - 1);
    syscall(SYS_close, from);
    if (length < 0)
        return;
    text[length] = 0;
    plan_inode = now.st_ino;
    plan_time = now.st_mtim;
    rule_count = 0;
    long ahead = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "clock %ld", &ahead) == 1)
            continue;
        if (rule_count == RULES || !read_rule(line, &rules[rule_count]))
            refuse(line);
        rule_count++;
    }
    clock_ahead = ahead;
}

static void note(enum operation operation, const char *path, const struct rule *rule) {
    char name[PATH_MAX + 8], line[PATH_MAX + 64];
    snprintf(name, sizeof name, "%s.log", plan);
    const char *place = path + below_length + 1;
    int length = snprintf(line, sizeof line, "%s %s %s\n", operations[operation], place, name_of(rule));
    int to = raw_open(AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (to >= 0) {
        (void)!syscall(SYS_write, to, line, length);
        syscall(SYS_close, to);
    }
}

/* The first rule that is for this operation, or none. All that match count it. */
static struct rule *rule_for(enum operation operation, const char *path) {
    read_plan();
    struct rule *found = NULL;
    for (int at = 0; at < rule_count; at++) {
        struct rule *rule = &rules[at];
        if (rule->operation != operation && (rule->operation != ANY || operation == READ))
            continue;
        if (fnmatch(rule->glob, path + below_length + 1, 0) != 0)
            continue;
        rule->seen++;
        if (!found && rule->seen >= rule->first && rule->seen <= rule->last)
            found = rule;
    }
    return found;
}

/* Where things are. */

static int is_below(const char *path) {
    return below_length && !strncmp(path, below, below_length) && path[below_length] == '/';
}

/* Whether the descriptor is of a file below the folder, or the folder, and its path. */
static int place_of(int descriptor, char *path) {
    if (!below_length)
        return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 2);
    if (length <= 0)
        return 0;
    path[length] = 0;
    if (!strcmp(path, below))
        strcat(path, "/");
    return is_below(path);
}

static int place_at(int folder, const char *name, char *path) {
    if (!below_length)
        return 0;
    if (name[0] == '/')
        snprintf(path, PATH_MAX, "%s", name);
    else {
        char start[PATH_MAX];
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, start, sizeof start) < 0)
                return 0;
        } else if (!place_of(folder, start))
            return 0;
        size_t length = strlen(start);
        int written = snprintf(path, PATH_MAX, "%s%s%s", start, start[length - 1] == '/' ? "" : "/", name);
        if (written >= PATH_MAX)
            return 0;
    }
    return is_below(path);
}

/* What is not synced. */

static struct file *file_of(const struct stat *seen, int make) {
    for (int at = 0; at < file_count; at++)
        if (files[at].inode == seen->st_ino && files[at].device == seen->st_dev)
            return &files[at];
    if (!make || file_count == FILES)
        return NULL;
    struct file *file = &files[file_count++];
    memset(file, 0, sizeof *file);
    file->inode = seen->st_ino;
    file->device = seen->st_dev;
    return file;
}

static void forget(const struct stat *gone) {
    struct file *file = file_of(gone, 0);
    if (file)
        *file = files[--file_count];
}

static void is_dirty(int descriptor, off_t from, off_t to) {
    struct stat seen;
    if (to <= from || fstat(descriptor, &seen) != 0)
        return;
    struct file *file = file_of(&seen, 1);
    if (!file)
        return;
    for (int at = 0; at < file->ranges; at++)
        if (from <= file->dirty[at].to && to >= file->dirty[at].from) {
            if (from < file->dirty[at].from)
                file->dirty[at].from = from;
            if (to > file->dirty[at].to)
                file->dirty[at].to = to;
            return;
        }
    int last = sizeof file->dirty / sizeof *file->dirty - 1;
    if (file->ranges > last) {
        /* Too many to tell apart: more than is true counts as lost. */
        if (from < file->dirty[last].from)
            file->dirty[last].from = from;
        if (to > file->dirty[last].to)
            file->dirty[last].to = to;
        return;
    }
    file->dirty[file->ranges].from = from;
    file->dirty[file->ranges++].to = to;
}

static void is_synced(int descriptor) {
    struct stat seen;
    if (fstat(descriptor, &seen) != 0)
        return;
    if (S_ISDIR(seen.st_mode)) {
        for (int at = 0; at < file_count; at++)
            if (files[at].parent == seen.st_ino)
                files[at].parent = 0;
        return;
    }
    struct file *file = file_of(&seen, 0);
    if (file)
        file->ranges = 0;
}

/* A fresh descriptor: one that appends cannot write into the middle. */
static void make_zero(const char *path, off_t from, off_t to) {
    static const char zeros[4096];
    int file = raw_open(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    struct stat seen;
    if (file < 0)
        return;
    if (fstat(file, &seen) == 0 && to > seen.st_size)
        to = seen.st_size;
    while (from < to) {
        size_t length = to - from < (off_t)sizeof zeros ? (size_t)(to - from) : sizeof zeros;
        long written = syscall(SYS_pwrite64, file, zeros, length, from);
        if (written <= 0)
            break;
        from += written;
    }
    syscall(SYS_close, file);
}

static void lose(const char *path, int descriptor) {
    struct stat seen;
    struct file *file = fstat(descriptor, &seen) == 0 ? file_of(&seen, 0) : NULL;
    if (!file)
        return;
    for (int at = 0; at < file->ranges; at++)
        make_zero(path, file->dirty[at].from, file->dirty[at].to);
    file->ranges = 0;
}

static unsigned chance;
static int harsh;

static int in_the_dark(const char *path, const struct stat *seen, int kind, struct FTW *walk) {
    (void)walk;
    struct file *file = kind == FTW_F ? file_of(seen, 0) : NULL;
    if (!file)
        return 0;
    if (file->parent && (harsh || rand_r(&chance) % 2)) {
        syscall(SYS_unlinkat, AT_FDCWD, path, 0);
        return 0;
    }
    for (int at = file->ranges - 1; at >= 0; at--) {
        off_t from = file->dirty[at].from, to = file->dirty[at].to;
        off_t middle = from + (off_t)(rand_r(&chance) % (unsigned)(to - from));
        switch (harsh ? 0 : rand_r(&chance) % 5) {
        case 0: /* The length of the file was not synced. */
            (void)!truncate(path, from);
            break;
        case 1:
            (void)!truncate(path, middle);
            break;
        case 2: /* The length was, the content was not. */
            make_zero(path, from, to);
            break;
        case 3: /* A later page reached the disk before an earlier one. */
            make_zero(path, from, middle);
            break;
        default:
            break;
        }
    }
    return 0;
}

static void go_dark(long number) {
    chance = (unsigned)number;
    harsh = number == 0;
    nftw(below, in_the_dark, 16, FTW_PHYS);
    die();
}

/* One operation, from its beginning to its end. */

struct step {
    char path[PATH_MAX];
    struct rule rule;
    struct rule *counted;
};

/* 0: go on. Otherwise errno. The lock is held after it. */
static int enter(struct step *step, enum operation operation) {
    pthread_mutex_lock(&lock);
    step->counted = rule_for(operation, step->path);
    step->rule.action = NOTHING;
    if (!step->counted)
        return 0;
    step->rule = *step->counted;
    if (step->rule.action != ROOM)
        note(operation, step->path, &step->rule);
    switch (step->rule.action) {
    case FAIL:
        return step->rule.error;
    case WAIT:
        pthread_mutex_unlock(&lock);
        usleep((useconds_t)step->rule.number * 1000);
        pthread_mutex_lock(&lock);
        return 0;
    case DIE_BEFORE:
        die();
        return 0;
    case DARK_BEFORE:
        go_dark(step->rule.number);
        return 0;
    default:
        return 0;
    }
}

static void leave(struct step *step) {
    int error = errno;
    if (step->rule.action == DIE_AFTER)
        die();
    if (step->rule.action == DARK_AFTER)
        go_dark(step->rule.number);
    pthread_mutex_unlock(&lock);
    errno = error;
}

static int failed(int error) {
    errno = error;
    return -1;
}

/* What the program calls. */

static int opens(int folder, const char *name, int flags, mode_t mode) {
    struct step step;
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!changes || !place_at(folder, name, step.path))
        return raw_open(folder, name, flags, mode);
    struct stat seen;
    int error = enter(&step, OPEN);
    int is_new = syscall(SYS_newfstatat, AT_FDCWD, step.path, &seen, AT_SYMLINK_NOFOLLOW) != 0;
    int file = error ? failed(error) : raw_open(folder, name, flags, mode);
    if (file >= 0 && fstat(file, &seen) == 0) {
        if (is_new) {
            forget(&seen);
            struct stat parent;
            char *slash = strrchr(step.path, '/');
            *slash = 0;
            struct file *made = file_of(&seen, 1);
            if (made && syscall(SYS_newfstatat, AT_FDCWD, step.path, &parent, 0) == 0)
                made->parent = parent.st_ino;
            *slash = '/';
        } else if (flags & O_TRUNC)
            forget(&seen);
    }
    leave(&step);
    return file;
}

#define OPENS(name)                                   \
    int name(const char *path, int flags, ...) {      \
        va_list more;                                 \
        va_start(more, flags);                        \
        mode_t mode = va_arg(more, mode_t);           \
        va_end(more);                                 \
        return opens(AT_FDCWD, path, flags, mode);    \
    }
#define OPENS_AT(name)                                        \
    int name(int folder, const char *path, int flags, ...) {  \
        va_list more;                                         \
        va_start(more, flags);                                \
        mode_t mode = va_arg(more, mode_t);                   \
        va_end(more);                                         \
        return opens(folder, path, flags, mode);              \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

int mkdirat(int folder, const char *name, mode_t mode) {
    struct step step;
    if (!place_at(folder, name, step.path))
        return (int)syscall(SYS_mkdirat, folder, name, mode);
    int error = enter(&step, OPEN);
    int result = error ? failed(error) : (int)syscall(SYS_mkdirat, folder, name, mode);
    leave(&step);
    return result;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* `at` is -1 where the file stands. */
static ssize_t writes(int descriptor, const void *bytes, size_t length, off_t at) {
    struct step step;
    if (!place_of(descriptor, step.path))
        return at < 0 ? syscall(SYS_write, descriptor, bytes, length)
                      : syscall(SYS_pwrite64, descriptor, bytes, length, at);
    int error = enter(&step, WRITE);
    if (step.rule.action == HALF)
        length = (length + 1) / 2;
    if (step.rule.action == ROOM) {
        if (step.counted->number < (long)length) {
            note(WRITE, step.path, &step.rule);
            length = (size_t)step.counted->number;
            error = length ? 0 : ENOSPC;
        }
        step.counted->number -= (long)length;
    }
    ssize_t result;
    if (error)
        result = failed(error);
    else if (step.rule.action == LIE)
        result = (ssize_t)length;
    else {
        struct stat seen;
        off_t from = at;
        if (at < 0) {
            int flags = fcntl(descriptor, F_GETFL);
            from = (flags & O_APPEND) && fstat(descriptor, &seen) == 0 ? seen.st_size
                                                                      : lseek(descriptor, 0, SEEK_CUR);
            result = syscall(SYS_write, descriptor, bytes, length);
        } else
            result = syscall(SYS_pwrite64, descriptor, bytes, length, at);
        if (result > 0)
            is_dirty(descriptor, from, from + result);
    }
    leave(&step);
    return result;
}

ssize_t write(int descriptor, const void *bytes, size_t length) { return writes(descriptor, bytes, length, -1); }
ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t at) {
    return writes(descriptor, bytes, length, at);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t at) {
    return writes(descriptor, bytes, length, at);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!place_of(descriptor, path))
        return syscall(SYS_writev, descriptor, parts, count);
    /* One part is a legal answer to many. */
    for (int at = 0; at < count; at++)
        if (parts[at].iov_len)
            return writes(descriptor, parts[at].iov_base, parts[at].iov_len, -1);
    return 0;
}

static ssize_t reads(int descriptor, void *bytes, size_t length, off_t at) {
    struct step step;
    int error = 0, ours = place_of(descriptor, step.path);
    if (ours)
        error = enter(&step, READ);
    ssize_t result = error    ? failed(error)
                     : at < 0 ? syscall(SYS_read, descriptor, bytes, length)
                              : syscall(SYS_pread64, descriptor, bytes, length, at);
    if (ours)
        leave(&step);
    return result;
}

ssize_t read(int descriptor, void *bytes, size_t length) { return reads(descriptor, bytes, length, -1); }
ssize_t pread(int descriptor, void *bytes, size_t length, off_t at) { return reads(descriptor, bytes, length, at); }
ssize_t pread64(int descriptor, void *bytes, size_t length, off_t at) { return reads(descriptor, bytes, length, at); }

static int syncs(int descriptor, long number) {
    struct step step;
    if (!place_of(descriptor, step.path))
        return (int)syscall(number, descriptor);
    int error = enter(&step, SYNC);
    int result;
    if (error)
        result = failed(error);
    else if (step.rule.action == LOSE) {
        lose(step.path, descriptor);
        result = failed(EIO);
    } else if (step.rule.action == LIE)
        result = 0;
    else if ((result = (int)syscall(number, descriptor)) == 0)
        is_synced(descriptor);
    leave(&step);
    return result;
}

int fsync(int descriptor) { return syncs(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return syncs(descriptor, SYS_fdatasync); }

static int truncates(int descriptor, off_t length) {
    struct step step;
    if (!place_of(descriptor, step.path))
        return (int)syscall(SYS_ftruncate, descriptor, length);
    int error = enter(&step, TRUNCATE);
    int result = error ? failed(error) : (int)syscall(SYS_ftruncate, descriptor, length);
    leave(&step);
    return result;
}

int ftruncate(int descriptor, off_t length) { return truncates(descriptor, length); }
int ftruncate64(int descriptor, off_t length) { return truncates(descriptor, length); }

int unlinkat(int folder, const char *name, int flags) {
    struct step step;
    if (!place_at(folder, name, step.path))
        return (int)syscall(SYS_unlinkat, folder, name, flags);
    int error = enter(&step, UNLINK);
    struct stat gone;
    int known = syscall(SYS_newfstatat, folder, name, &gone, AT_SYMLINK_NOFOLLOW) == 0;
    int result = error ? failed(error) : (int)syscall(SYS_unlinkat, folder, name, flags);
    if (result == 0 && known && gone.st_nlink <= 1)
        forget(&gone);
    leave(&step);
    return result;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int renameat2(int from, const char *old, int to, const char *name, unsigned flags) {
    struct step step;
    if (!place_at(to, name, step.path))
        return (int)syscall(SYS_renameat2, from, old, to, name, flags);
    int error = enter(&step, RENAME);
    int result = error ? failed(error) : (int)syscall(SYS_renameat2, from, old, to, name, flags);
    struct stat seen;
    if (result == 0 && syscall(SYS_newfstatat, to, name, &seen, AT_SYMLINK_NOFOLLOW) == 0) {
        /* A journal keeps one of the two names. */
        struct file *file = file_of(&seen, 0);
        if (file)
            file->parent = 0;
    }
    leave(&step);
    return result;
}

int renameat(int from, const char *old, int to, const char *name) { return renameat2(from, old, to, name, 0); }
int rename(const char *old, const char *name) { return renameat2(AT_FDCWD, old, AT_FDCWD, name, 0); }

int clock_gettime(clockid_t which, struct timespec *out) {
    if (which != CLOCK_REALTIME || !plan)
        return (int)raw_clock(which, out);
    static _Atomic long looked;
    struct timespec now;
    raw_clock(CLOCK_MONOTONIC, &now);
    long hundredth = now.tv_sec * 100 + now.tv_nsec / 10000000;
    if (looked != hundredth && pthread_mutex_trylock(&lock) == 0) {
        looked = hundredth;
        read_plan();
        pthread_mutex_unlock(&lock);
    }
    int result = (int)raw_clock(which, out);
    out->tv_sec += clock_ahead;
    return result;
}
