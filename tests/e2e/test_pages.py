"""The dashboard's files as browsers get them, and what pages of other sites may do: nothing."""
import base64
import gzip
import http.client
import re
import subprocess
import tempfile

from cluster import EXE, Cluster, main

c = None
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'; "
          "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


def setup_module():
    global c
    c = Cluster(nodes=(), engine=False)


def teardown_module():
    if c:
        c.destroy()


def ask(method, path, body=None, cluster=None, **headers):
    """-> (status, headers, bytes); headers' names with _ for -."""
    connection = http.client.HTTPConnection((cluster or c).address, (cluster or c).port, timeout=10)
    connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data


def scripts():
    return re.findall(r'(?:src|href)="(/assets/[^"]+)"', ask("GET", "/")[2].decode())


def test_the_page_is_at_the_root_and_at_all_its_own_addresses():
    status, head, page = ask("GET", "/")
    assert status == 200 and head["content-type"] == "text/html; charset=utf-8" and b"<html" in page
    for path in ("/nodes/mynode/gpus/3", "/tasks/17", "/tasks?status=running&x=%00", "/submit", "/nodes/gpu1.example.com", "/index.html"):
        assert ask("GET", path)[::2] == (200, page), path
    for path in ("/favicon.ico", "/assets/index-00000000.js", "/assets/", "/api/v1/nothing", "/api", "/assets/../../etc/passwd",
                 "/%2e%2e/%2e%2e/etc/passwd.txt", "/wp-login.php"):
        status, head, body = ask("GET", path)
        assert status == 404 and head["content-type"] == "application/json", (path, status, body)
    for method, path in (("POST", "/"), ("PUT", "/submit"), ("DELETE", "/index.html")):
        assert ask(method, path, b"")[0] in (404, 405), (method, path)


def test_what_is_sent_is_named_packed_and_guarded():
    assert scripts(), "the page loads nothing"
    for path in ["/"] + scripts():
        _, plain_head, plain = ask("GET", path)
        assert "content-encoding" not in plain_head and int(plain_head["content-length"]) == len(plain)
        _, head, packed = ask("GET", path, Accept_Encoding="deflate, gzip")
        assert head["content-encoding"] == "gzip" and gzip.decompress(packed) == plain, path
        status, brotli, packed = ask("GET", path, Accept_Encoding="gzip, deflate, br, zstd")
        assert status == 200 and brotli["content-encoding"] == "br" and len(packed) < len(plain), path
        assert len({plain_head["etag"], head["etag"], brotli["etag"]}) == 3
        for one in (plain_head, head, brotli):
            assert one["vary"] == "Accept-Encoding" and one["content-security-policy"] == POLICY, one
            assert one["x-content-type-options"] == "nosniff" and one["referrer-policy"] == "no-referrer", one
            assert one["cross-origin-opener-policy"] == "same-origin", one
            assert one["cache-control"] == ("no-cache" if path == "/" else "public, max-age=31536000, immutable"), one
        status, head, nothing = ask("HEAD", path)
        assert status == 200 and nothing == b"" and int(head["content-length"]) == len(plain) and head["etag"] == plain_head["etag"]
        for tag in (plain_head["etag"], brotli["etag"], 'W/"x", ' + plain_head["etag"]):
            status, head, nothing = ask("GET", path, If_None_Match=tag)
            assert status == 304 and nothing == b"" and head["etag"] == plain_head["etag"], (path, tag, status, head)
            assert head["content-security-policy"] == POLICY
        assert ask("GET", path, If_None_Match='"something else"')[0] == 200


def test_the_page_keeps_its_own_rules():
    """The policy forbids inline script and style, and anything from elsewhere: the page must not need it."""
    page = ask("GET", "/")[2].decode()
    for tag in re.findall(r"<script[^>]*>[^<]*", page):
        assert 'src="/assets/' in tag and tag.endswith(">"), tag
    assert "<style" not in page and not re.search(r"\sstyle=|\son\w+=|https?://", page), page


def upgrade(path, origin, cluster=None, **headers):
    return ask("GET", path, cluster=cluster, **headers, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13", Sec_WebSocket_Protocol="x",
               Sec_WebSocket_Key=base64.b64encode(b"0" * 16).decode(), **({"Origin": origin} if origin else {}))


def test_R10_pages_of_other_sites_change_nothing():
    own = "http://%s:%d" % (c.address, c.port)
    body = b'{"command":["true"],"targets":["nowhere::0"]}'
    for origin in ("http://evil.example", "null", own + "0", "http://" + c.address, "file://"):
        for path in ("/api/v1/tasks", "/api/v1/nodes/mynode/cordon", "/api/v1/runners/join", "/api/v1/vps/1/delete"):
            status, _, answer = ask("POST", path, body, Origin=origin, Content_Type="application/json")
            assert status == 403 and b"another site" in answer, (origin, path, status, answer)
        for path in ("/api/v1/vps/1/connect", "/api/v1/runners/connect"):
            status, _, answer = upgrade(path, origin)
            assert status == 403 and b"another site" in answer, (origin, path, status, answer)
    status, head, answer = ask("POST", "/api/v1/tasks", body, Origin=own, Content_Type="application/json")
    assert status == 400 and b"nowhere" in answer, answer  # it is refused for what it asks
    assert not any(name.startswith("access-control") for name in head), head  # nobody else may read answers either
    assert ask("POST", "/api/v1/tasks", body, Content_Type="application/json")[0] == 400  # other clients send none
    for origin in (own, None):
        assert upgrade("/api/v1/vps/1/connect", origin)[0] == 404  # there is no such machine
    assert ask("OPTIONS", "/api/v1/tasks", Origin="http://evil.example", Access_Control_Request_Method="POST")[0] in (403, 405)


def check_names(cluster, guards_all):
    """guards_all: also against clients that are no browsers."""
    def post(host, origin=None, **headers):
        headers.update({"Origin": origin} if origin else {})
        return ask("POST", "/api/v1/tasks", b'{"command":["true"],"targets":["nowhere::0"]}', cluster, Host=host,
                   Content_Type="application/json", **headers)

    # as a proxy with TLS passes it on: heard, and refused for what it asks
    for host in ("river.example.com", "river.example.com:443", "River.Example.com", "gpu.example.com"):
        origin = "https://" + host.split(":")[0]
        status, _, answer = post(host, origin)
        assert status == 400 and b"nowhere" in answer, (host, status, answer)
        assert upgrade("/api/v1/vps/1/connect", origin, cluster, Host=host)[0] == 404, host
        assert post(host)[0] == 400 and ask("GET", "/", cluster=cluster, Host=host, Sec_Fetch_Site="none")[0] == 200, host
    status, _, answer = post("river.example.com", "https://evil.example")
    assert status == 403 and b"another site" in answer, (status, answer)
    # as a page sends it whose name was rebound to this address
    for host in ("evil.example", "evil.example:%d" % cluster.port, "river.example.com.evil.example"):
        for status, _, answer in (post(host, "http://" + host), upgrade("/api/v1/vps/1/connect", "http://" + host, cluster, Host=host),
                                  ask("GET", "/api/v1/tasks", cluster=cluster, Host=host, Sec_Fetch_Site="same-origin"),
                                  ask("GET", "/", cluster=cluster, Host=host, Sec_Fetch_Mode="navigate")):
            assert status == 403 and host.encode() in answer and b"host_names" in answer, (host, status, answer)
        assert ask("GET", "/api/v1/tasks", cluster=cluster, Host=host)[0] == (403 if guards_all else 200), host
        assert post(host)[0] == (403 if guards_all else 400), host


def test_R10_a_host_behind_a_proxy_has_the_names_that_it_is_told():
    cluster = Cluster(nodes=(), engine=False, host_names="river.example.com; gpu.example.com")
    try:
        check_names(cluster, guards_all=True)
    finally:
        cluster.destroy()
    status, _, answer = ask("GET", "/api/v1/version", Host="river.example.com")  # not told
    assert status == 403 and b"host_names" in answer, answer


def test_R10_browsers_cannot_be_led_to_an_address_of_the_network_by_another_name():
    cluster = Cluster(nodes=(), engine=False, listen_address="0.0.0.0", host_names="river.example.com; gpu.example.com")
    try:
        check_names(cluster, guards_all=False)
    finally:
        cluster.destroy()


def test_a_host_name_that_can_never_match_stops_the_host():
    for wrong in ("https://river.example.com", "river.example.com:443", "*.example.com"):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([EXE, "host", "--state-dir=" + folder + "/host", "--listen=127.0.0.1:0", "--host-names=" + wrong],
                                  capture_output=True, text=True, timeout=30)
        assert done.returncode == 2 and "host_names" in done.stderr and wrong in done.stderr, (wrong, done)


if __name__ == "__main__":
    main()
