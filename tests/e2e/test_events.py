"""The live stream: complete, quick, without loss over broken connections, and cheap with readers that do not read."""
import resource
import subprocess
import time

from cluster import BUILD, Cluster, main, wait_until
from live_stream import Page, Stream

c = None


def setup_module():
    global c
    c = Cluster()


def teardown_module():
    if c:
        c.destroy()


FIGURES = ("memory_used_bytes", "power_mw", "utilization_percent", "temperature_celsius", "idle_since_ms", "last_seen_ms",
           "sm_clock_mhz", "memory_clock_mhz", "memory_utilization_percent")


def without_figures(rows):
    return {key: {k: v for k, v in row.items() if k not in FIGURES} for key, row in rows.items()}


def what_is():
    """The same as a page's rows, asked for by REST."""
    return {name: {key(row): row for row in c.api("GET", "/" + name)[1][name]} for name, key in Page.KEYS.items()}


def expect_truth(stream):
    def agree():
        is_now = what_is()
        with stream.lock:
            return all(without_figures(stream.page.rows[name]) == without_figures(is_now[name]) for name in Page.KEYS)

    wait_until(lambda: "the page agrees with the host: %r, and is: %r" % (stream.page.rows["gpus"], what_is()["gpus"]), agree, 10)


def expect_like_fresh(stream):
    """What was put together is what a reader gets that comes now, to the letter."""
    def agree():
        with Stream(c) as fresh:
            fresh.wait("a snapshot", lambda page: True)
            with stream.lock, fresh.lock:
                return stream.page.rows == fresh.page.rows and stream.page.task_counts == fresh.page.task_counts

    wait_until("a page that was put together is like a fresh one", agree, 15, 0.05)


def cordon(node, index, verb="cordon", reason="a test"):
    status, answer = c.api("POST", "/nodes/%s/gpus/%d/%s" % (node, index, verb), {"who": "test", "reason": reason})
    assert status == 200, answer


def rss_kib():
    with open("/proc/%d/status" % c.host.pid) as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def test_it_begins_with_a_snapshot_of_everything():
    with Stream(c) as stream:
        stream.wait("a snapshot", lambda page: True)
        assert stream.status == 200 and stream.head["content-type"] == "text/event-stream", stream.head
        assert stream.head["cache-control"] == "no-store" and stream.head["x-accel-buffering"] == "no", stream.head
        first = stream.events[0]
        run, _, number = first.id.partition(".")
        assert first.kind == "snapshot" and len(run) >= 8 and int(number) > 0, first
        version = c.api("GET", "/version")[1]
        assert first.data["version"] == version["version"] and first.data["cluster_id"] == version["cluster_id"]
        assert abs(first.data["now_ms"] - time.time() * 1000) < 5000 and first.data["task_counts"] == {}
        assert len(first.data["nodes"]) == 2 and len(first.data["gpus"]) == 6 and first.data["vps"] == []
        expect_truth(stream)


def test_a_change_of_state_arrives_within_a_second():
    with Stream(c) as stream:
        stream.wait("a snapshot", lambda page: True)
        for verb, state in (("cordon", "quarantined"), ("uncordon", "free")) * 3:
            cordon("mynode", 3, verb)
            begin = time.monotonic()
            stream.wait("GPU 3 is " + state, lambda page: page.rows["gpus"]["mynode", 3]["state"] == state)
            assert time.monotonic() - begin < 1, "it took %.2f s" % (time.monotonic() - begin)
        assert "cordon" not in stream.page.rows["gpus"]["mynode", 3]  # a member that is gone is gone on the page
        expect_truth(stream)


def test_the_life_of_a_task_is_told():
    with Stream(c) as stream:
        stream.wait("a snapshot", lambda page: True)
        task_id = c.submit("mynode::1", "sh", "-c", "sleep 1; exit 3", options=("--name", "told"))
        stream.wait("it runs", lambda page: page.tasks.get(task_id, {}).get("state") == "running", 30)
        held = stream.wait("its card says who", lambda page: page.rows["gpus"]["mynode", 1].get("holder"))
        assert held["task_id"] == task_id and held["owner"] == c.task(task_id)["owner"] and held["name"] == "told", held
        assert stream.page.task_counts == {"running": 1}, stream.page.task_counts
        end = stream.wait("it is over", lambda page: page.tasks[task_id]["state"] == "failed"
                          and not page.tasks[task_id]["holds_lease"] and page.tasks[task_id], 30)
        assert end["exit_code"] == 3 and end["command_text"] == "sh -c 'sleep 1; exit 3'" and end["node"] == "mynode", end
        assert end["gpus"][0]["index"] == 1 and end["finished_ms"] >= end["started_ms"] >= end["created_ms"], end
        stream.wait("its card is free", lambda page: page.rows["gpus"]["mynode", 1]["free"]
                    and "holder" not in page.rows["gpus"]["mynode", 1])
        assert stream.page.task_counts == {}
        expect_truth(stream)
        expect_like_fresh(stream)


def test_R3_a_silent_node_is_told_and_so_is_its_return():
    task_id = c.submit("node2::0", "sleep", "1000")
    c.wait_state(task_id, "running")
    with Stream(c) as stream:
        stream.wait("a snapshot", lambda page: page.task_counts == {"running": 1})
        c["node2"].daemon.freeze()
        try:
            stream.wait("node2 is offline", lambda page: not page.rows["nodes"]["node2"]["online"], 15)
            stream.wait("its cards are unknown", lambda page: page.rows["gpus"]["node2", 1]["state"] == "unknown")
            assert stream.page.rows["gpus"]["node2", 0]["holder"]["task_id"] == task_id
            stream.wait("its task is lost", lambda page: page.tasks[task_id]["state"] == "lost")
            assert stream.wait("it counts so", lambda page: page.task_counts == {"lost": 1})
            before = len(stream.events)
            time.sleep(2)  # silence is told once, not every second
            assert len([e for e in stream.events[before:] if e.kind == "changes"]) <= 1, stream.events[before:]
        finally:
            c["node2"].daemon.thaw()
        stream.wait("it is back", lambda page: page.rows["nodes"]["node2"]["online"]
                    and page.tasks[task_id]["state"] == "running" and page.rows["gpus"]["node2", 1]["free"], 20)
        expect_truth(stream)
    c.kill_task(task_id)


def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice():
    for how in ("header", "query"):
        with Stream(c) as always:
            first = Stream(c)
            first.wait("a snapshot", lambda page: True)
            cordon("mynode", 2)
            first.wait("GPU 2 is out", lambda page: page.rows["gpus"]["mynode", 2]["state"] == "quarantined")
            first.close()
            seen = first.last_id()
            for verb in ("uncordon", "cordon", "uncordon"):
                cordon("mynode", 2, verb)
                time.sleep(0.25)
            where = {"last_id": seen} if how == "header" else {"query": "?last_event_id=" + seen}
            with Stream(c, page=first.page, **where) as second:
                cordon("node2", 1)
                second.wait("GPU 1 of node2 is out", lambda page: page.rows["gpus"]["node2", 1]["state"] == "quarantined")
                always.wait("the other one knows", lambda page: page.rows["gpus"]["node2", 1]["state"] == "quarantined")
                assert "snapshot" not in second.kinds(), second.events
                ids = [e.id for e in always.events if e.id]
                wanted = [(e.id, e.text) for e in always.events if e.id][ids.index(seen) + 1:]
                got = [(e.id, e.text) for e in second.events if e.id]
                n = min(len(wanted), len(got))
                assert n >= 4 and got[:n] == wanted[:n], (seen, ids, got)
                cordon("node2", 1, "uncordon")
                expect_like_fresh(second)
    for wrong in ("0123456789ab.1", seen.split(".")[0] + ".999999999", seen.split(".")[0] + ".x", "x" * 5000):
        with Stream(c, last_id=wrong) as stream:
            stream.wait("a snapshot", lambda page: True)
            assert stream.kinds()[0] == "snapshot", (wrong, stream.events)


def test_a_quiet_stream_says_that_it_lives():
    with Cluster(nodes=(), engine=False) as empty:  # where nothing ever changes
        with Stream(empty) as stream:
            stream.wait("a snapshot", lambda page: page.rows["gpus"] == {})
            beat = stream.wait_event("a beat", lambda e: e.kind == "beat", 20)
            assert abs(beat.data["now_ms"] - time.time() * 1000) < 5000, beat
            assert 8 < beat.at - stream.events[0].at < 13, "%.1f s" % (beat.at - stream.events[0].at)
            assert stream.kinds() == ["snapshot"], stream.events
        with Stream(empty, last_id=stream.last_id()) as again:
            again.wait_event("it is heard again by who comes back", lambda e: e.kind == "beat", 20)
            assert again.kinds() == [], again.events


def test_another_run_of_the_host_is_another_run_of_events():
    with Stream(c) as stream:
        stream.wait("a snapshot", lambda page: True)
        cordon("mynode", 2)
        stream.wait("GPU 2 is out", lambda page: page.rows["gpus"]["mynode", 2]["state"] == "quarantined")
        cordon("mynode", 2, "uncordon")
        seen = stream.last_id()
        assert c.host.stop() == 0
        wait_until("the stream ends with its host", stream.closed.is_set, 10)
    c.start_host()
    with Stream(c, last_id=seen) as stream:
        stream.wait("a snapshot", lambda page: page.rows["gpus"]["mynode", 2]["free"])
        assert stream.kinds()[0] == "snapshot" and stream.events[0].id.split(".")[0] != seen.split(".")[0]
        expect_truth(stream)


def test_fifty_readers_see_the_same():
    streams = [Stream(c) for _ in range(50)]
    try:
        for stream in streams:
            stream.wait("a snapshot", lambda page: True)
        tasks = [c.submit("mynode::%d" % i, "sleep", "0.5") for i in range(3)]
        for i in range(10):
            cordon("node2", i % 2, "cordon" if i % 4 < 2 else "uncordon", "round %d" % i)
        for i in (0, 1):
            cordon("node2", i, "uncordon")
        for task_id in tasks:
            c.wait_released(task_id)
        for stream in streams:
            stream.wait("all is over", lambda page: all(not page.tasks.get(t, {"holds_lease": 1})["holds_lease"] for t in tasks)
                        and all(gpu["free"] for gpu in page.rows["gpus"].values()))
        expect_like_fresh(streams[0])
        events = [{e.id: e.text for e in stream.events if e.kind == "changes"} for stream in streams]
        common = set.intersection(*(set(e) for e in events))
        assert len(common) >= 5, common
        for number, seen in enumerate(events):
            assert all(seen[i] == events[0][i] for i in common), number
    finally:
        for stream in streams:
            stream.close()


def test_readers_that_do_not_read_cost_little_and_are_told_all_in_the_end():
    """200 nodes more; 25 readers that take nothing while more happens than is kept."""
    n_nodes = 200
    load = subprocess.Popen([BUILD / "tests" / "bench" / "bench_heartbeats", str(c.port), str(c.token_file), str(n_nodes), "300", "idle"],
                            stdout=subprocess.PIPE, text=True)
    slow = []
    try:
        assert load.stdout.readline() == "ready\n"
        with Stream(c) as quick:
            quick.wait("all are there", lambda page: len(page.rows["gpus"]) >= n_nodes * 8, 30)
            slow = [Stream(c, reads=False, buffer_bytes=4096) for _ in range(25)]
            time.sleep(1)
            before = rss_kib()
            sent = quick.bytes
            begin = time.monotonic()
            rounds = 0
            while quick.bytes - sent < 6 << 20:  # the ring has 4 MiB
                rounds += 1
                for i in range(0, n_nodes, 4):
                    status, answer = c.api("POST", "/nodes/bench%d/cordon" % i, {"who": "test", "reason": "%d " % rounds * 120})
                    assert status == 200, answer
                assert time.monotonic() - begin < 120, "%d bytes in %d rounds" % (quick.bytes - sent, rounds)
            grown = rss_kib() - before
            assert grown < 40_000, "the host has grown by %d KiB" % grown
            for stream in slow:
                stream.start_reading()
            for stream in slow[:5]:
                stream.wait("it has caught up", lambda page: page.rows["nodes"]["bench0"].get("cordon", {}).get("reason", "")
                            .startswith("%d " % rounds), 60)
                kinds = stream.kinds()
                assert kinds[0] == "snapshot" and kinds.count("snapshot") == 2, kinds
            expect_like_fresh(slow[0])
            assert rss_kib() - before < 60_000, "the host has grown by %d KiB" % (rss_kib() - before)
    finally:
        for stream in slow:
            stream.close()
        load.kill()
        load.wait()


def test_there_is_a_last_stream():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    streams = []
    with Cluster(nodes=(), engine=False) as empty:
        def is_refused():
            with Stream(empty) as one_more:
                wait_until("an answer", lambda: one_more.events or one_more.closed.is_set(), 10)
                return one_more.status == 503

        try:
            streams = [Stream(empty, reads=False) for _ in range(1024)]
            wait_until("one more is refused", is_refused, 20)
            assert empty.api("GET", "/version")[0] == 200  # everything else goes on
            streams.pop().close()
            wait_until("there is room again", lambda: not is_refused(), 20)
        finally:
            for stream in streams:
                stream.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    main()
