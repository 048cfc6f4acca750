"""What the container files promise: the right files in, the right programs out, nothing else."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from manifests import K8S, ROOT, build, container, ports

IMAGES = pytest.mark.parametrize("name", ["node", "proxy", "seamctl"])


def container_file(name):
    return (K8S / "images" / f"{name}.Containerfile").read_text()


def instructions(name):
    """The container file's lines as the builder sees them."""
    return [line for line in re.sub(r"\\\n", " ", container_file(name)).splitlines() if line and not line.startswith("#")]


def let_through(name):
    """What of the checkout the builder gets."""
    ignore = (K8S / "images" / f"{name}.Containerfile.dockerignore").read_text().split("\n")
    assert "**" in ignore and "**/target" in ignore
    return {line[1:] for line in ignore if line.startswith("!")}


@IMAGES
def test_container_file_is_multi_stage_unprivileged_and_locked(name):
    text, lines = container_file(name), instructions(name)
    stages = [line for line in lines if line.startswith("FROM ")]
    assert stages == ["FROM ${RUST} AS build", "FROM ${DEBIAN}"]
    for argument in (line for line in lines if line.startswith("ARG ")):
        assert re.fullmatch(r"ARG \w+=[a-z]+:[\w.-]+", argument), "a base without registry host, with a version"
    final = lines[lines.index("FROM ${DEBIAN}"):]
    users = [line for line in final if line.startswith("USER ")]
    assert users == ["USER 10001:10001"]
    assert not any("apt-get" in line or "cargo" in line for line in final)
    assert "cargo build --locked --release" in text
    assert not re.search(r"curl|wget|git clone|ADD ", text)
    entry = next(line for line in final if line.startswith("ENTRYPOINT"))
    program = re.search(r'"/usr/local/bin/([\w-]+)"', entry)[1]
    assert program == ("seamctl" if name == "seamctl" else f"seam-{name}")
    assert f"/out/{program}" in text
    rust = re.search(r"ARG RUST=rust:([\d.]+)-bookworm", text)[1]
    wanted = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    assert tuple(map(int, rust.split("."))) >= tuple(map(int, wanted.split(".")))


@IMAGES
def test_builder_gets_every_workspace_member_and_no_build_output(name):
    kept = let_through(name)
    members = re.search(r"members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text(), re.S)[1]
    for member in re.findall(r'"([^"]+)"', members):
        assert member.split("/")[0] in kept, member
    assert {"Cargo.toml", "Cargo.lock", "web"} <= kept


@IMAGES
def test_everything_that_is_copied_exists(name):
    lines = instructions(name)
    copies = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    assert copies
    built = set(re.search(r"install -D -s -t /out ((?:target/release/[\w-]+ ?)+)", " ".join(lines))[1].split())
    asked = {f"target/release/{b}" for b in re.findall(r"--bin ([\w-]+)", " ".join(lines))}
    assert built == asked, "what is built is what is installed"
    packages = {tomllib.loads(p.read_text())["package"]["name"] for p in ROOT.glob("*/Cargo.toml")}
    for words in copies:
        if words[0] == "--from=build":
            assert {f"target/release/{Path(w).name}" for w in words[1:-1]} == built
        else:
            assert words == [".", "."], words
    for program in built:
        assert Path(program).name in packages, f"no package makes {program}"
    for path in let_through(name):
        assert (ROOT / path).exists(), f"{path} is let through and does not exist"


@IMAGES
def test_cargo_finds_a_whole_locked_workspace_in_what_the_builder_gets(name, tmp_path):
    if not shutil.which("cargo"):
        pytest.skip("no cargo")
    for kept in let_through(name):
        (tmp_path / kept).symlink_to(ROOT / kept)
    # All that was downloaded for this checkout, and nothing that only this checkout has.
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    workspace = json.loads(done.stdout)
    members = [p for p in workspace["packages"] if p["id"] in workspace["workspace_members"]]
    built = {t["name"]: Path(t["src_path"]) for p in members for t in p["targets"] if "bin" in t["kind"]}
    for program in re.findall(r"--bin ([\w-]+)", " ".join(instructions(name))):
        assert built[program].is_relative_to(tmp_path) and built[program].exists()


@IMAGES
def test_builder_gets_every_file_that_the_sources_include(name):
    kept = [ROOT / path for path in let_through(name)]
    found = 0
    for crate in ("stratum", "cluster", "node", "proxy", "ctl"):
        for source in (ROOT / crate).rglob("src/**/*.rs"):
            # What follows the first test is not built for a container.
            code = source.read_text().split("#[cfg(test)]")[0]
            for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', code):
                path = (source.parent / included).resolve()
                assert path.exists(), path
                assert any(path.is_relative_to(k) for k in kept), f"{source} includes {path}"
                found += 1
    assert found > 5


@IMAGES
def test_installed_packages_are_debians(name):
    packages = [w for line in instructions(name) for w in re.findall(r"apt-get install -y --no-install-recommends ([\w. +-]+?) &&", line)]
    wanted = {w for p in packages for w in p.split()}
    setup = (ROOT / "scripts" / "setup").read_text()
    known = set(re.search(r"PACKAGES=\(([^)]+)\)", setup)[1].split())
    assert wanted <= known, "what the build needs is named in scripts/setup, which installs it from Debian 12"
    assert wanted or name != "node", "Bitcoin Core needs CMake and Boost"
    if wanted and shutil.which("apt-cache"):
        shown = subprocess.run(["apt-cache", "policy", *sorted(wanted)], capture_output=True, text=True).stdout
        assert set(re.findall(r"^(\S+):$", shown, re.M)) >= wanted


def test_exposed_ports_are_the_manifests():
    m = build("dev")
    for w, name in ((m.node, "node"), (m.proxy, "proxy")):
        text = container_file(name)
        exposed = set(map(int, re.search(r"EXPOSE ([\d ]+)", text)[1].split()))
        assert exposed == set(ports(w).values())


def test_images_have_a_version_and_a_container_file(m):
    for w in m.workloads:
        name, _, tag = container(w)["image"].rpartition(":")
        assert tag and tag != "latest"
        image = name.rsplit("/", 1)[-1].removeprefix("seam-")
        assert (K8S / "images" / f"{image}.Containerfile").exists()


def test_no_image_names_a_registry(m):
    bases = re.findall(r"^ARG \w+=(\S+)", "\n".join(p.read_text() for p in (K8S / "images").glob("*.Containerfile")), re.M)
    for image in [container(w)["image"] for w in m.workloads] + bases:
        host, slash, _ = image.partition("/")
        assert not slash or not re.search("[.:]", host), image
