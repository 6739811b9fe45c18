"""The unit tests of the Docker backend (tests/unit/test_docker.c), against a real engine. Relays their TAP."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]
from engine import IMAGE, Engine  # noqa: E402
from tap import Skip  # noqa: E402

BUILD = Path(os.environ.get("KR_BUILD", HERE.parent.parent / "build-test")).resolve()


def main():
    if [name for name in os.environ.get("TEST_NAMES", "").split(",") if name and name not in "docker_backend"]:
        print("1..0")
        return 0
    with tempfile.TemporaryDirectory(prefix="kr-e2e-") as folder:
        try:
            engine = Engine(folder, "unit")
        except Skip as why:
            print("1..0 # SKIP %s" % why)
            return 0
        try:
            engine.start().import_image()
            return subprocess.run([str(BUILD / "tests" / "unit" / "test_docker"), "--tap", "-k"], timeout=300,
                                  env=dict(os.environ, KOHAKURIVER_TEST_DOCKER=engine.socket, KOHAKURIVER_TEST_IMAGE=IMAGE)).returncode
        finally:
            for left in engine.destroy():
                print("not ok - left of the engine: %s" % left)


if __name__ == "__main__":
    sys.exit(main())
