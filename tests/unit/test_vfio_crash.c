/* The agent is killed at every journal write and at every step, on the way there, on the way back, while undoing and while
 * recovering. Whatever it left, the next run brings every card to a state with a name, and nothing is half done (L71, R5). */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "vfio_agent.h"

#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 6, MIN_KILLS = 40 }; /* each process takes ten times as long */
#else
enum { STRIDE = 1, MIN_KILLS = 200 };
#endif

static const char *const points[] = {"vfio_journal_before", "vfio_journal_after", "vfio_step_started",
                                     "vfio_step_done",      "vfio_remove_before", "vfio_remove_after"};

static void live_there_and_back(const char *root) {
    struct agent *a = agent_new(root);

    agent_bind(a, "vps-1", CARD);
    g_assert_cmpstr(a->error, ==, NULL);
    agent_give_back(a, "vps-1");
    g_assert_cmpstr(a->error, ==, NULL);
    agent_free(a);
}

static void live_undoing(const char *root) {
    struct agent *a;

    tree_script(root, "probe 0000:01:00.3 errno:16 once\n");
    a = agent_new(root);
    agent_bind(a, "vps-1", CARD);
    g_assert_nonnull(a->error);
    agent_free(a);
}

static void live_recovering(const char *root) {
    struct agent *a = agent_new(root);

    agent_free(a);
}

/* A life of the agent in a process of its own. true: it was killed at the fault point. */
static bool is_killed(void (*life)(const char *root), const char *root, const char *point, int hit) {
    g_autofree char *fault = g_strdup_printf("%s:%d", point, hit);
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        if (hit > 0)
            setenv("KOHAKURIVER_FAULT", fault, 1);
        life(root);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status))
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
    else
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    return WIFSIGNALED(status);
}

/* Either it is all bound, or it is all at home; what lies between has no place. */
static void check(const char *root, const char *what, int hit) {
    struct agent *a = agent_new(root);
    g_autofree char *drivers = tree_drivers(root, "0000:01");
    bool is_bound = vfio_state_of(a->s, CARD, NULL) == VFIO_BOUND;

    if (is_bound != (strcmp(drivers, AWAY) == 0) || (!is_bound && strcmp(drivers, HOME) != 0))
        g_error("%s:%d: the state is %s and the drivers are %s: %s", what, hit,
                vfio_state_to_str(vfio_state_of(a->s, CARD, NULL)), drivers, a->recovered->str);
    g_assert_true(has_journal(a, "vps-1") == is_bound);
    g_assert_true(is_bound ? strcmp(a->recovered->str, "vps-1 bound \n") == 0
                           : strcmp(a->recovered->str, "vps-1 idle \n") == 0 || a->recovered->len == 0);
    if (is_bound) {
        agent_give_back(a, "vps-1");
        g_assert_cmpstr(a->error, ==, NULL);
        assert_drivers(root, "0000:01", HOME);
    }
    agent_free(a);
}

/* Every hit of every point, until a life ends of itself. The number of kills. */
static int kill_everywhere(void (*life)(const char *root), void (*prepare)(const char *root)) {
    int n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        bool goes_on = true;

        for (int hit = 1; goes_on; hit += STRIDE) {
            g_autofree char *root = tree_of_machine();

            if (prepare)
                prepare(root);
            goes_on = is_killed(life, root, points[i], hit);
            n += goes_on;
            check(root, points[i], hit);
            tree_remove(root);
        }
    }
    return n;
}

static void cut_off_binding(const char *root) {
    g_assert_true(is_killed(live_there_and_back, root, "vfio_step_done", 9));
}

static void cut_off_giving_back(const char *root) {
    g_assert_true(is_killed(live_there_and_back, root, "vfio_step_started", 15));
}

#ifdef KR_FAULT_POINTS
enum { HAS_FAULT_POINTS = true };
#else
enum { HAS_FAULT_POINTS = false };
#endif

static int n_kills;

static void test_there_and_back(void) { n_kills += kill_everywhere(live_there_and_back, NULL); }
static void test_undoing(void) { n_kills += kill_everywhere(live_undoing, NULL); }
static void test_recovering_a_bind(void) { n_kills += kill_everywhere(live_recovering, cut_off_binding); }
static void test_recovering_a_way_back(void) { n_kills += kill_everywhere(live_recovering, cut_off_giving_back); }

static void test_count(void) {
    g_test_message("%d kills", n_kills);
    printf("# %d kills\n", n_kills);
    g_assert_cmpint(n_kills, >=, MIN_KILLS);
}

int main(int argc, char **argv) {
    agent_be_helper(argc, argv);
    g_test_init(&argc, &argv, NULL);
    if (!HAS_FAULT_POINTS) {
        printf("1..0 # SKIP built without crash points\n");
        return 0;
    }
    g_test_add_func("/vfio/crash/there_and_back", test_there_and_back);
    g_test_add_func("/vfio/crash/undoing", test_undoing);
    g_test_add_func("/vfio/crash/recovering_a_bind", test_recovering_a_bind);
    g_test_add_func("/vfio/crash/recovering_a_way_back", test_recovering_a_way_back);
    g_test_add_func("/vfio/crash/count", test_count);
    return g_test_run();
}
