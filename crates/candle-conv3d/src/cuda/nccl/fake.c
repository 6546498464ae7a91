// An NCCL for the tests: the functions that are called, over the processor's memory, and strict about what it is told. A sum
// is made when the last GPU has been asked for it, so that nobody waits, as on streams. It is compiled with another VERSION
// or without a function where a test is about that.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION 22809
#endif

enum { OK = 0, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };
enum { FLOAT32 = 7, FLOAT64 = 8 };
enum { RANKS = 8, PIECES = 64 };

typedef struct {
    const void *from;
    void *to;
    size_t count;
    int type;
} Piece;

struct Group;
typedef struct {
    struct Group *group;
    int rank;
    void *stream;
    // Of all sums ever asked for, those that are not made yet begin at the group's `made`.
    Piece asked[PIECES];
    int count;
} Communicator;

typedef struct Group {
    int ranks, made, broken;
    Communicator *all[RANKS];
} Group;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int destroyed, aborted;
static __thread int depth;
static __thread struct {
    Communicator *to;
    Piece piece;
} waiting[PIECES];
static __thread int waits;

int fakeDestroyed(void) { return destroyed; }
int fakeAborted(void) { return aborted; }

int ncclGetVersion(int *to)
{
    *to = VERSION;
    return OK;
}

const char *ncclGetErrorString(int status)
{
    return status == INVALID_USAGE ? "invalid usage" : "invalid argument";
}

int ncclCommInitAll(Communicator **to, int count, const int *devices)
{
    if (count < 1 || count > RANKS)
        return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++)
            if (devices[i] < 0 || (i != j && devices[i] == devices[j]))
                return INVALID_USAGE;
    Group *group = calloc(1, sizeof *group);
    group->ranks = count;
    for (int i = 0; i < count; i++) {
        group->all[i] = to[i] = calloc(1, sizeof **to);
        to[i]->group = group;
        to[i]->rank = i;
    }
    return OK;
}

static void leave(Communicator *it, int *counted)
{
    // Left twice: nothing that could be said to anyone.
    if (!it->group || it->group->all[it->rank] != it)
        abort();
    it->group->broken = 1;
    it->group->all[it->rank] = NULL;
    it->group = NULL;
    ++*counted;
}

int ncclCommDestroy(Communicator *it)
{
    pthread_mutex_lock(&lock);
    const int unmade = it->group && it->count > it->group->made && !it->group->broken;
    leave(it, &destroyed);
    pthread_mutex_unlock(&lock);
    return unmade ? INVALID_USAGE : OK;
}

#ifndef WITHOUT_ABORT
int ncclCommAbort(Communicator *it)
{
    pthread_mutex_lock(&lock);
    leave(it, &aborted);
    pthread_mutex_unlock(&lock);
    return OK;
}
#endif

int ncclGroupStart(void)
{
    depth++;
    return OK;
}

int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Communicator *it, void *stream)
{
    if (!from || !to || from == to || count == 0 || (type != FLOAT32 && type != FLOAT64) || operation != 0 || !stream)
        return INVALID_ARGUMENT;
    // Several sums outside a group may wait for each other.
    if (depth == 0 || !it->group || waits == PIECES || (it->stream && it->stream != stream))
        return INVALID_USAGE;
    it->stream = stream;
    waiting[waits].to = it;
    waiting[waits++].piece = (Piece){from, to, count, type};
    return OK;
}

// Sums that all have been asked for, in the order of the ranks.
static int make(Group *group)
{
    for (;; group->made++) {
        for (int i = 0; i < group->ranks; i++)
            if (group->all[i]->count == group->made)
                return OK;
        const Piece first = group->all[0]->asked[group->made % PIECES];
        double *sums = calloc(first.count, sizeof *sums);
        for (int i = 0; i < group->ranks; i++) {
            const Piece piece = group->all[i]->asked[group->made % PIECES];
            if (piece.count != first.count || piece.type != first.type) {
                group->broken = 1;
                free(sums);
                return INVALID_ARGUMENT;
            }
            for (size_t j = 0; j < piece.count; j++)
                sums[j] += piece.type == FLOAT32 ? ((const float *)piece.from)[j] : ((const double *)piece.from)[j];
        }
        for (int i = 0; i < group->ranks; i++) {
            const Piece piece = group->all[i]->asked[group->made % PIECES];
            for (size_t j = 0; j < piece.count; j++)
                if (piece.type == FLOAT32)
                    ((float *)piece.to)[j] = (float)sums[j];
                else
                    ((double *)piece.to)[j] = sums[j];
        }
        free(sums);
    }
}

int ncclGroupEnd(void)
{
    if (depth == 0)
        return INVALID_USAGE;
    if (--depth > 0)
        return OK;
    int status = OK;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < waits && status == OK; i++) {
        Communicator *it = waiting[i].to;
        if (!it->group || it->group->broken || it->count - it->group->made == PIECES) {
            status = INVALID_USAGE;
            break;
        }
        it->asked[it->count++ % PIECES] = waiting[i].piece;
        status = make(it->group);
    }
    waits = 0;
    pthread_mutex_unlock(&lock);
    return status;
}
