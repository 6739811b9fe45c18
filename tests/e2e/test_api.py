"""The host's edge: what comes from outside must be clear JSON of bounded size, or it is refused and changes nothing."""
import json
import os
import socket

from cluster import Cluster, main, wait_until

c = None


def setup_module():
    global c
    c = Cluster(nodes=("mynode",), engine=False)


def teardown_module():
    if c:
        c.destroy()


def raw(data, then=None):
    """Sends bytes; what comes back until the host closes or is silent for 5 s."""
    answer = b""
    with socket.create_connection(("127.0.0.1", c.port), 5) as s:
        try:
            s.sendall(data)
            while then and then(s):
                pass
        except OSError:
            pass
        try:
            while chunk := s.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and b"}" in answer:
                    break
        except OSError:
            pass
    return answer


def rss_kib():
    with open("/proc/%d/status" % c.host.pid) as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


def test_a_body_of_100_mb_is_refused_without_being_read():
    head = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n"
    sent = [0]

    def more(s):
        s.sendall(b" " * 65536)
        sent[0] += 65536
        return sent[0] < 104857600

    answer = raw(head, more)
    assert answer.startswith(b"HTTP/1.1 413") or (not answer and sent[0] < 104857600), (answer[:300], sent)
    assert c.api("GET", "/version")[0] == 200
    assert rss_kib() < 60_000, "the host has %d KiB resident" % rss_kib()
    chunked = (b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    count = [0]

    def chunks(s):
        count[0] += 1
        s.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n" if count[0] <= 1600 else b"0\r\n\r\n")
        return count[0] <= 1600

    answer = raw(chunked, chunks)
    assert answer.startswith(b"HTTP/1.1 413") or (not answer and count[0] < 1600), (answer[:300], count)
    assert c.api("GET", "/version")[0] == 200 and rss_kib() < 60_000, rss_kib()


def test_malformed_json_is_400_with_the_place():
    for body in (b"{", b"", b"[]", b"null", b'{"command":["x"],}', b'{"command":["x"],"command":["y"]}', b"\xff\xfe{}", b'{"command": "x"}',
                 b'{"command":[]}', b'{"command":[1]}', b'{"command":["x"],"frob":1}', b"[" * 100000, b'{"command":["x"],"cores":-1}',
                 b'{"command":["x"],"memory_bytes":1e99}', b'{"command":["x\\u0000y"]}'):
        status, answer = c.api("POST", "/tasks", body, {"Content-Type": "application/json"})
        assert status == 400 and answer["error"]["message"], "%r: %s %r" % (body[:60], status, answer)
    assert c.api("GET", "/tasks")[1]["tasks"] == []


def test_what_is_not_json_or_not_there_is_named():
    assert c.api("POST", "/tasks", b"command=x", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    assert c.api("GET", "/nothing")[0] == 404
    assert c.api("DELETE", "/tasks")[0] == 405
    for path in ("/tasks/0", "/tasks/abc", "/tasks/99999999999999", "/tasks/-1", "/tasks?limit=0", "/tasks?limit=1001",
                 "/tasks?status=sleeping", "/tasks/1/logs?offset=-1"):
        status, answer = c.api("GET", path)
        assert status in (400, 404) and answer["error"]["message"], "%s: %s %r" % (path, status, answer)
    assert c.api("GET", "/tasks/4711")[0] == 404 and c.api("GET", "/nodes/nope")[0] == 404


def test_a_foreign_host_header_is_refused():
    # A web page of somebody else's cannot use a browser on this machine to submit tasks (DNS rebinding).
    answer = raw(b"GET /api/v1/version HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]


def test_the_openapi_document_names_every_route():
    status, document = c.api("GET", "/openapi.json")
    assert status == 200 and document["openapi"].startswith("3.")
    paths = document["paths"]
    for method, path in [("get", "/api/v1/version"), ("post", "/api/v1/tasks"), ("get", "/api/v1/tasks"),
                         ("get", "/api/v1/tasks/{id}"), ("post", "/api/v1/tasks/{id}/kill"), ("get", "/api/v1/tasks/{id}/logs"),
                         ("get", "/api/v1/nodes"), ("get", "/api/v1/nodes/{name}"), ("post", "/api/v1/runners/join")]:
        found = [p for p in paths if p.lower().replace("{task_id}", "{id}") in (path, path[len("/api/v1"):])]
        assert found and method in paths[found[0]], "%s %s is not in %s" % (method, path, sorted(paths))


def test_a_node_without_an_engine_says_so_and_gets_no_task():
    status = c["mynode"].status()
    assert status["engine_ok"] is False and "docker.sock" in status["engine_text"], status
    assert "NOT WORKING" in c.cli("node", "status", "mynode", code=0).out
    result = c.cli("task", "submit", "-t", "mynode::0", "--", "true", code=1)
    assert "engine" in result.err.lower() or "docker" in result.err.lower(), result


# ---- joining ----

def test_a_wrong_token_is_refused():
    assert c.api("POST", "/runners/join", {"node": "intruder", "token": "wrong"})[0] == 401
    wrong = c.dir / "wrong-token"
    wrong.write_text("wrong\n")
    node = c.add_node("intruder", start=False, join_token_file=wrong)
    node.start(wait=False)
    wait_until(lambda: "the runner says why: " + node.daemon.tail(), lambda: "token" in node.daemon.tail().lower(), 15)
    assert c.api("GET", "/nodes/intruder")[0] == 404
    assert node.daemon.process.wait(10) == 1, "a runner that can never join goes on trying"
    node.daemon.process = None


def test_a_credential_is_not_readable_for_others_and_a_wrong_one_does_not_connect():
    for path in c["mynode"].state_dir.rglob("*"):
        if path.is_file() and "credential" in path.name:
            assert path.stat().st_mode & 0o077 == 0, "%s has mode %o" % (path, path.stat().st_mode)
            break
    else:
        raise AssertionError("no credential under %s" % c["mynode"].state_dir)
    assert c.token_file.stat().st_mode & 0o077 == 0
    head = (b"GET /api/v1/runners/connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: kohakuriver.v1\r\nAuthorization: Bearer nonsense\r\n\r\n")
    assert raw(head).startswith(b"HTTP/1.1 401")


def test_odd_names_of_nodes():
    token = c.token_file.read_text().strip()
    for name in ("my node", "a/b", "../x", "-x", "x-", "", "näme", "a" * 64, "a\nb", "a:b", "x\0y"):
        status, answer = c.api("POST", "/runners/join", {"node": name, "token": token})
        assert status == 400 and answer["error"]["message"], "%r: %s %r" % (name, status, answer)
    assert c.api("POST", "/runners/join", {"node": "Node_1.example-x", "token": token})[0] == 201
    node = c.add_node("odd name", start=False)
    node.start(wait=False)
    wait_until(lambda: "the runner refuses its name: " + node.daemon.tail(), lambda: "odd name" in node.daemon.tail(), 15)
    assert node.daemon.process.wait(10) in (1, 2)
    node.daemon.process = None


def test_nothing_listens_on_a_node():
    inodes = set()
    for fd in os.scandir("/proc/%d/fd" % c["mynode"].daemon.pid):
        try:
            inodes.add(os.readlink(fd.path))
        except OSError:
            pass
    for table in ("tcp", "tcp6"):
        for line in open("/proc/net/" + table).read().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                assert "socket:[%s]" % fields[9] not in inodes, "the runner listens: " + line


def test_the_api_listens_on_loopback_alone():
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        if state == "0A" and int(address.split(":")[1], 16) == c.port:
            assert address.startswith("0100007F"), line


def test_a_question_that_only_the_node_can_answer():
    status, body = c.api("GET", "/nodes/mynode/runner")
    assert status == 200 and body["pid"] == c["mynode"].daemon.pid and body["resident_bytes"] > 0, body
    assert c.api("GET", "/nodes/nonesuch/runner")[0] == 404
    status, body = c.api("GET", "/nodes/mynode/qemu")  # a fake tree without an IOMMU
    assert status == 200 and body["accel"] == "auto" and not body["can_pass_gpus"], body
    assert {f["id"] for f in body["findings"]} >= {"kvm", "qemu", "iommu", "vfio_modules"} and body["gpus"], body
    assert c.api("GET", "/nodes/nonesuch/qemu")[0] == 404
    node = c["mynode"]
    node.daemon.kill()
    wait_until("the host has noticed", lambda: c.api("GET", "/nodes/mynode/runner")[0] == 503, 20)
    node.start()
    wait_until("it answers again", lambda: c.api("GET", "/nodes/mynode/runner")[0] == 200, 20)


def test_json_output_is_the_apis_answer():
    assert json.loads(c.cli("node", "list", "-f", "json", code=0).out)["nodes"][0]["name"]
    assert json.loads(c.cli("task", "list", "-f", "json", code=0).out) == {"tasks": []}


if __name__ == "__main__":
    main()
