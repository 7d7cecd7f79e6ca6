/*
 * A disk that forgets: keeps, beside the files a process writes, what a power loss would leave of them, and cuts the
 * power at the sync asked for. Loaded with LD_PRELOAD; tests/it/shadow.rs prepares and reads what it keeps.
 *
 * The model is the letter of POSIX, which is stricter than any journaling file system:
 *   - bytes of a file are durable once the file was synced, as they were then;
 *   - a name (created, renamed, removed) is durable once its directory was synced. Syncing a file does not make its
 *     name durable, syncing a directory does not make its own name durable, and nothing becomes durable by itself.
 * ext4 (data=ordered), XFS and btrfs do more: syncing a file that is new brings its name along (the name lies in the
 * same transaction, or is logged with it), and names change in the order in which they were changed. What may become
 * durable by itself is up to shadow.rs, which sees the live directory, too.
 *
 * One exception: files in a directory `blobs` bring their name along, as they do on those file systems. lsm-tree 3.1.10
 * syncs each blob file it writes, but that directory never again after creating it, and then deletes the journals that
 * hold the same data: nobody above it can step in between. Everything else, fjall's and ours, is held to the letter.
 *
 * Whatever is not modelled (msync, sync, syncfs) aborts; a way to sync that is not seen here makes nothing durable. So a
 * gap in this file fails tests and passes none.
 *
 *   POWERLOSS_WATCH   the directory whose files are watched; itself durable
 *   POWERLOSS_SHADOW  where to keep: f<inode> the bytes of a file, d<inode>/NAME a link to what NAME stands for
 *   POWERLOSS_AT      the power goes at the how-manieth sync; 0: never
 *   POWERLOSS_HOW     before: the sync did nothing; torn: every other page, or the new names only; after: all of it;
 *                     fails: the power stays, the sync fails, and, as in Linux, the pages it should have written are
 *                     given up: a later sync of the file succeeds, but brings only what was changed since;
 *                     journal: as before, and only syncs of journals count;
 *                     hangs: the power stays, and no sync of a table or blob ever ends
 *   POWERLOSS_SLOW_US how long a sync of a table or blob takes: as a disk does, it lets others go on meanwhile
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char watch[PATH_MAX], shadow[PATH_MAX];
static size_t watch_len;
static long cut_at, syncs;
static char how[16];
static useconds_t slow_us;
/* The file whose sync failed, and its bytes at that time. */
static ino_t failed_ino;
static char *failed_bytes;
static off_t failed_size;
static ino_t *pinned;
static size_t pinned_count;

static void broken(const char *what) {
    dprintf(2, "powerloss: %s: %s\n", what, strerror(errno));
    abort();
}

static void power_off(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

__attribute__((constructor)) static void start(void) {
    const char *from = getenv("POWERLOSS_WATCH"), *to = getenv("POWERLOSS_SHADOW");
    const char *at = getenv("POWERLOSS_AT"), *by = getenv("POWERLOSS_HOW");
    if (!from || !to) return;
    if (!realpath(from, watch) || !realpath(to, shadow)) broken("the directories");
    watch_len = strlen(watch);
    cut_at = at ? atol(at) : 0;
    slow_us = getenv("POWERLOSS_SLOW_US") ? atol(getenv("POWERLOSS_SLOW_US")) : 0;
    snprintf(how, sizeof how, "%s", by ? by : "before");
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Whether fd is a file or directory below the watched directory, and under which path. */
static int watched(int fd, struct stat *st, char *path) {
    char link[64];
    if (!watch_len || fstat(fd, st) || !(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) || st->st_nlink == 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n < 0) broken(link);
    path[n] = 0;
    return !strncmp(path, watch, watch_len) && (path[watch_len] == 0 || path[watch_len] == '/');
}

/* Holds on to an inode for good, so that its number is not given to another file. */
static void pin(int dir, const char *name, int flags, ino_t ino) {
    for (size_t i = 0; i < pinned_count; i++)
        if (pinned[i] == ino) return;
    if (openat(dir, name, O_PATH | O_CLOEXEC | flags) < 0) {
        if (errno == ENOENT) return;
        broken("pin");
    }
    pinned = realloc(pinned, (pinned_count + 1) * sizeof *pinned);
    if (!pinned) broken("memory");
    pinned[pinned_count++] = ino;
}

struct image {
    char *at;
    off_t size;
};

static struct image map(int fd, off_t size, int flags) {
    struct image image = {NULL, size};
    if (size && (image.at = mmap(NULL, size, flags, MAP_SHARED, fd, 0)) == MAP_FAILED) broken("map");
    return image;
}

/* Brings the pages that differ from one file to the other, as far as `data` has any. Holes read as zeros in both. */
static void copy_pages(int data, struct image from, struct image to, int torn, int given_up) {
    for (off_t at = 0; at < from.size;) {
        off_t start = lseek(data, at, SEEK_DATA), end;
        if (start < 0 || start >= from.size) return;
        end = lseek(data, start, SEEK_HOLE);
        if (end < 0 || end > from.size) end = from.size;
        for (off_t page = start / PAGE * PAGE; page < end; page += PAGE) {
            size_t n = from.size - page < PAGE ? from.size - page : PAGE;
            size_t given = !given_up || page >= failed_size ? 0 : failed_size - page < PAGE ? failed_size - page : PAGE;
            if (torn && page / PAGE % 2) continue;
            if (given == n && !memcmp(from.at + page, failed_bytes + page, n)) continue;
            if (memcmp(from.at + page, to.at + page, n)) memcpy(to.at + page, from.at + page, n);
        }
        at = end;
    }
}

/* Opens a file anew, to read it: the descriptor may not. */
static int reopen(int fd) {
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int again = open(own, O_RDONLY | O_CLOEXEC);
    if (again < 0) broken("open the file");
    return again;
}

static void keep_file(int fd, const struct stat *st, int torn) {
    char path[PATH_MAX + 64];
    int from = reopen(fd);
    snprintf(path, sizeof path, "%s/f%lu", shadow, (unsigned long)st->st_ino);
    int to = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0) broken(path);
    /* The size is from before, so that what is written meanwhile is left to the next sync. */
    if (ftruncate(to, st->st_size)) broken("resize");
    struct image source = map(from, st->st_size, PROT_READ), target = map(to, st->st_size, PROT_READ | PROT_WRITE);
    int given_up = st->st_ino == failed_ino;
    copy_pages(from, source, target, torn, given_up);
    /* What the file no longer has. */
    copy_pages(to, source, target, torn, given_up);
    if (st->st_size) {
        munmap(source.at, st->st_size);
        munmap(target.at, st->st_size);
    }
    close(from);
    close(to);
}

static void give_up(int fd, const struct stat *st) {
    int from = reopen(fd);
    struct image source = map(from, st->st_size, PROT_READ);
    failed_ino = st->st_ino;
    failed_size = st->st_size;
    failed_bytes = malloc(st->st_size + 1);
    if (!failed_bytes) broken("memory");
    memcpy(failed_bytes, source.at, st->st_size);
    close(from);
}

/* Says in the shadow what a name in a directory stands for: in one step, as a rename is one. */
static void keep_name(ino_t dir, const char *name, const struct stat *st) {
    char path[PATH_MAX + 64 + NAME_MAX], temporary[PATH_MAX + 64], now[64], want[64];
    snprintf(path, sizeof path, "%s/d%lu", shadow, (unsigned long)dir);
    if (mkdir(path, 0700) && errno != EEXIST) broken(path);
    if (!name) return;
    snprintf(path, sizeof path, "%s/d%lu/%s", shadow, (unsigned long)dir, name);
    snprintf(want, sizeof want, "%c%lu", S_ISDIR(st->st_mode) ? 'd' : 'f', (unsigned long)st->st_ino);
    ssize_t n = readlink(path, now, sizeof now - 1);
    now[n < 0 ? 0 : n] = 0;
    if (!strcmp(now, want)) return;
    snprintf(temporary, sizeof temporary, "%s/name", shadow);
    if (symlink(want, temporary) || rename(temporary, path)) broken(path);
}

static void keep_names(int fd, ino_t ino, int torn) {
    char path[PATH_MAX + 64];
    keep_name(ino, NULL, NULL);
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *live = again < 0 ? NULL : fdopendir(again);
    if (!live) broken("list the directory");
    for (struct dirent *entry; (entry = readdir(live));) {
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
            if (errno == ENOENT) continue;
            broken(entry->d_name);
        }
        pin(fd, entry->d_name, O_NOFOLLOW, st.st_ino);
        keep_name(ino, entry->d_name, &st);
    }
    closedir(live);
    if (torn) return;
    snprintf(path, sizeof path, "%s/d%lu", shadow, (unsigned long)ino);
    DIR *kept = opendir(path);
    if (!kept) broken(path);
    for (struct dirent *entry; (entry = readdir(kept));) {
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
            unlinkat(dirfd(kept), entry->d_name, 0);
    }
    closedir(kept);
}

/* The exception: a file in `blobs` brings its name along. */
static void keep_blob_name(char *path, const struct stat *file) {
    struct stat dir;
    char *name = strrchr(path, '/');
    *name++ = 0;
    const char *parent = strrchr(path, '/');
    if (parent && !strcmp(parent, "/blobs") && !stat(path, &dir)) keep_name(dir.st_ino, name, file);
}

static int sync_fd(int fd) {
    struct stat st;
    char path[PATH_MAX], own[64];
    /* The disk under test is the shadow: nothing is gained by waiting for the real one. */
    if (!watched(fd, &st, path)) return 0;
    if ((strstr(path, "/tables/") || strstr(path, "/blobs/")) && !strstr(path, "/keyspaces/0/")) {
        while (!strcmp(how, "hangs")) pause();
        usleep(slow_us);
    }
    pthread_mutex_lock(&lock);
    size_t length = strlen(path);
    int counts = strcmp(how, "journal") || (length > 4 && !strcmp(path + length - 4, ".jnl"));
    int last = counts && ++syncs == cut_at, torn = last && !strcmp(how, "torn");
    if (last && (!strcmp(how, "before") || !strcmp(how, "journal"))) power_off();
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    pin(AT_FDCWD, own, 0, st.st_ino);
    if (last && !strcmp(how, "fails")) {
        if (S_ISREG(st.st_mode)) give_up(fd, &st);
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        keep_names(fd, st.st_ino, torn);
    } else {
        keep_file(fd, &st, torn);
        if (!torn) keep_blob_name(path, &st);
    }
    if (last) power_off();
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return sync_fd(fd); }
int fdatasync(int fd) { return sync_fd(fd); }

int msync(void *at, size_t length, int flags) {
    (void)at, (void)length, (void)flags;
    broken("msync is not modelled");
    return -1;
}

void sync(void) { broken("sync is not modelled"); }

int syncfs(int fd) {
    (void)fd;
    broken("syncfs is not modelled");
    return -1;
}
