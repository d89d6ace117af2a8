"""The virtual board's kernel and initial file system, made once from Debian packages.

Cached under ``cache_root()/virtual/images/HASH``, where HASH covers the whole recipe. The keys
are no part of it: they come in a small archive of each board's own, read before this one.
"""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgequant.boards.virtual import cpio
from edgequant.boards.virtual.packages import AptRoot, unpack
from edgequant.core.errors import ToolMissingError, VirtualBoardError
from edgequant.core.files import whole_file, write_json
from edgequant.core.hashing import sha256_file, sha256_json
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root
from edgequant.core.progress import task

RECIPE_VERSION = 1
KERNEL_META_PACKAGE = "linux-image-cloud-arm64"
PACKAGES = ("busybox-static", "libc6", "openssh-server", "openssh-sftp-server", "dropbear-bin")
# Loaded in this order, each after what it depends on; built-in ones are passed over.
MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng")
PROGRAMS = ("usr/sbin/sshd", "usr/sbin/dropbear", "usr/bin/dropbearkey")
# dropbearconvert lies elsewhere, and newer sshd is three programs.
OPTIONAL_PROGRAMS = (
    "usr/lib/dropbear/dropbearconvert",
    "usr/lib/openssh/sftp-server",
    "usr/lib/openssh/sshd-session",
    "usr/lib/openssh/sshd-auth",
)
LIBRARY_FOLDERS = (
    "lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu/systemd",
)
# A package of libraries has its ABI's number in its name; the others hold data and programs.
LIBRARY_PACKAGE = re.compile(r"z?lib.*\d")
LOADER = "ld-linux-aarch64.so.1"
SCRIPTS = Path(__file__).parent

SSHD_CONFIG = """\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile /run/sshd.pid
ClientAliveInterval 15
ClientAliveCountMax 4
MaxSessions 64
MaxStartups 64
Subsystem sftp /usr/lib/openssh/sftp-server
"""
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
sshd:x:100:65534::/run/sshd:/bin/false
board:x:1000:1000:board:/data/home:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = "root:x:0:\nboard:x:1000:\nnogroup:x:65534:\n"
SHADOW = "root:*:19000:0:99999:7:::\nsshd:*:19000::::::\nboard:*:19000:0:99999:7:::\n"
INITTAB = """\
::respawn:/etc/edgequant/serve
::shutdown:/bin/sync
::shutdown:/bin/umount -a -r
::ctrlaltdel:/bin/poweroff
"""


@dataclass(frozen=True)
class Image:
    """What qemu boots: a raw kernel and a gzipped initial file system."""

    kernel: Path
    initrd: Path


def recipe_hash() -> str:
    """16 hex digits over all that decides what the image is made of."""
    scripts = {name: sha256_file(SCRIPTS / name) for name in ("init.sh", "serve.sh")}
    texts = [SSHD_CONFIG, PASSWD, GROUP, SHADOW, INITTAB]
    return sha256_json([RECIPE_VERSION, PACKAGES, MODULES, PROGRAMS, scripts, texts])[:16]


def ensure_image(root: Path | None = None) -> Image:
    """The cached image, made first where there is none: half a minute and 35 MB of packages.

    Args:
        root: folder of everything virtual, by default ``cache_root()/virtual``.

    Raises:
        ToolMissingError: apt, dpkg or pyelftools is missing.
        VirtualBoardError: the packages cannot be fetched, or lack something.
    """
    root = root if root is not None else cache_root() / "virtual"
    folder = root / "images" / recipe_hash()
    image = Image(folder / "Image", folder / "initrd.gz")
    if (folder / "manifest.json").is_file():
        return image
    folder.parent.mkdir(parents=True, exist_ok=True)
    what = "Waiting for another process that makes the virtual board's image"
    with exclusive(root / "images.lock", what):
        if not (folder / "manifest.json").is_file():
            _make_image(root, folder)
    return image


def _make_image(root: Path, folder: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        with task("Making the virtual board's image") as shown:
            shown.describe("Making the virtual board's image: fetching package lists")
            apt = AptRoot(root / "apt")
            apt.update()
            shown.describe("Making the virtual board's image: fetching packages")
            tree = draft / "tree"
            packages = _fetch_with_libraries(apt, tree)
            shown.describe("Making the virtual board's image: packing")
            kernels = sorted((tree / "boot").glob("vmlinuz-*"))
            if not kernels:
                raise VirtualBoardError("the kernel package holds no kernel", subject=tree)
            shutil.copyfile(kernels[-1], draft / "Image")
            archive = cpio.archive(cpio.with_parents(_entries(tree)))
            (draft / "initrd.gz").write_bytes(gzip.compress(archive, 6, mtime=0))
            shutil.rmtree(tree)
            write_json(
                draft / "manifest.json",
                {
                    "recipe": folder.name,
                    "packages": sorted(package.name for package in packages),
                    "files": {n: sha256_file(draft / n) for n in ("Image", "initrd.gz")},
                },
            )
            if folder.exists():
                shutil.rmtree(folder)
            draft.chmod(0o755)
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(root / "apt", ignore_errors=True)


def _fetch_with_libraries(apt: AptRoot, tree: Path) -> list[Path]:
    """Fetch and unpack the packages and those that hold the libraries they are linked with."""
    kernel = next((n for n in apt.depends(KERNEL_META_PACKAGE) if n.startswith("linux-image")), "")
    if not kernel:
        raise VirtualBoardError(f"no kernel behind the package {KERNEL_META_PACKAGE}")
    wanted = [kernel, *PACKAGES]
    known: set[str] = set()
    files: list[Path] = []
    while wanted:
        known.update(wanted)
        fetched = apt.download(wanted)
        files += fetched
        unpack(fetched, tree)
        missing = _missing_libraries(tree)
        if not missing:
            return files
        wanted = sorted(
            {
                depended
                for name in wanted
                if not name.startswith("linux-image")
                for depended in apt.depends(name)
                if LIBRARY_PACKAGE.match(depended) and depended not in known
            }
        )
    raise VirtualBoardError(f"no package holds the libraries {', '.join(sorted(missing))}")


def _programs(tree: Path) -> list[str]:
    absent = [name for name in PROGRAMS if not (tree / name).is_file()]
    if absent:
        raise VirtualBoardError(f"the packages lack {', '.join(absent)}", subject=tree)
    return [*PROGRAMS, *(name for name in OPTIONAL_PROGRAMS if (tree / name).is_file())]


def _library(tree: Path, name: str) -> Path | None:
    return next(
        ((tree / f / name) for f in LIBRARY_FOLDERS if (tree / f / name).is_file()),
        None,
    )


def _library_closure(tree: Path) -> tuple[dict[str, Path], set[str]]:
    """Libraries that the programs need, by the name they are asked for; and those not there."""
    found: dict[str, Path] = {}
    missing: set[str] = set()
    queue = [needed for program in _programs(tree) for needed in needed_libraries(tree / program)]
    while queue:
        name = queue.pop()
        if name in found or name in missing:
            continue
        path = _library(tree, name)
        if path is None:
            missing.add(name)
            continue
        found[name] = path
        queue += needed_libraries(path)
    return found, missing


def _missing_libraries(tree: Path) -> set[str]:
    return _library_closure(tree)[1]


def needed_libraries(path: Path) -> list[str]:
    """The DT_NEEDED names of an ELF file; empty for a static one.

    Raises:
        ToolMissingError: pyelftools is not installed.
    """
    try:
        from elftools.elf.dynamic import DynamicSection
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise ToolMissingError(
            "the Python package pyelftools is not installed",
            next_step="pip install 'edgequant[build]'",
        ) from None
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        return [
            str(tag.needed)
            for section in elf.iter_sections()
            if isinstance(section, DynamicSection)
            for tag in section.iter_tags()
            if tag.entry.d_tag == "DT_NEEDED"
        ]


def _entries(tree: Path) -> list[cpio.Entry]:
    libraries, _ = _library_closure(tree)
    entries = [
        cpio.character_device("dev/console", 5, 1),
        cpio.character_device("dev/null", 1, 3, 0o666),
        *(
            cpio.folder(name)
            for name in ("proc", "sys", "run", "tmp", "data", "mnt", "var", "sbin")
        ),
        *(cpio.folder(name) for name in ("usr/bin", "usr/sbin")),
        cpio.folder("root", 0o700),
        cpio.file("init", (SCRIPTS / "init.sh").read_bytes(), 0o755),
        cpio.file("etc/edgequant/serve", (SCRIPTS / "serve.sh").read_bytes(), 0o755),
        cpio.file("etc/inittab", INITTAB.encode()),
        cpio.file("etc/passwd", PASSWD.encode()),
        cpio.file("etc/group", GROUP.encode()),
        cpio.file("etc/shadow", SHADOW.encode(), 0o600),
        cpio.file("etc/ssh/sshd_config", SSHD_CONFIG.encode(), 0o600),
        cpio.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\n"),
        cpio.file("etc/shells", b"/bin/sh\n"),
        cpio.file("bin/busybox", _busybox(tree).read_bytes(), 0o755),
        cpio.symlink("bin/sh", "busybox"),
    ]
    for program in _programs(tree):
        name = "usr/bin/dropbearconvert" if program.endswith("dropbearconvert") else program
        entries.append(cpio.file(name, (tree / program).read_bytes(), 0o755))
    for name, path in sorted(libraries.items()):
        data = path.read_bytes()
        entries.append(cpio.file(f"lib/aarch64-linux-gnu/{name}", data, 0o755))
        if name == LOADER:
            entries.append(cpio.file(f"lib/{name}", data, 0o755))
    if LOADER not in libraries:
        loader = _library(tree, LOADER)
        if loader is None:
            raise VirtualBoardError("libc6 holds no dynamic loader", subject=tree)
        entries.append(cpio.file(f"lib/{LOADER}", loader.read_bytes(), 0o755))
    modules = _modules_in_order(tree)
    for path in modules:
        entries.append(cpio.file(f"lib/modules/{_module_name(path)}.ko", _module_bytes(path)))
    order = "".join(f"{_module_name(path)}.ko\n" for path in modules)
    entries.append(cpio.file("lib/modules/order", order.encode()))
    return entries


def _busybox(tree: Path) -> Path:
    for name in ("bin/busybox", "usr/bin/busybox"):
        if (tree / name).is_file():
            return tree / name
    raise VirtualBoardError("busybox-static holds no busybox", subject=tree)


def _module_name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def module_depends(data: bytes) -> list[str]:
    """Names of the modules that a kernel module says it depends on."""
    found = re.search(rb"\0depends=([^\0]*)\0", data)
    text = found.group(1).decode() if found else ""
    return [name.replace("-", "_") for name in text.split(",") if name]


def _modules_in_order(tree: Path) -> list[Path]:
    roots = [root for root in (tree / "lib/modules", tree / "usr/lib/modules") if root.is_dir()]
    files = {_module_name(p): p for root in roots for p in sorted(root.rglob("*.ko*"))}
    ordered: list[Path] = []

    def visit(name: str) -> None:
        path = files.get(name)
        if path is None or path in ordered:
            return
        for depended in module_depends(_module_bytes(path)):
            visit(depended)
        ordered.append(path)

    for name in MODULES:
        visit(name)
    return ordered


def key_archive(host_private_key: bytes, authorized_key: str) -> bytes:
    """The small archive with one board's own keys, to stand before the image's.

    Args:
        host_private_key: the board's host key in OpenSSH's form.
        authorized_key: the one line that may log in as root or board.
    """
    line = authorized_key.encode() + b"\n"
    entries = [
        cpio.file("etc/ssh/ssh_host_ed25519_key", host_private_key, 0o600),
        cpio.file("etc/ssh/authorized_keys.d/root", line),
        cpio.file("etc/ssh/authorized_keys.d/board", line),
    ]
    return cpio.archive(cpio.with_parents(entries))


def write_initrd(image: Image, keys: bytes, path: Path) -> None:
    """Join a board's keys and the image into the file that qemu loads, readable by us alone."""
    with whole_file(path, mode=stat.S_IRUSR | stat.S_IWUSR) as partial, partial.open("wb") as out:
        out.write(keys)
        with image.initrd.open("rb") as stream:
            shutil.copyfileobj(stream, out)
