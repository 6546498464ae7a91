"""Reads with other programs' packages what `deepfinder convert` writes, and compares. `cargo xtask interop` runs it.

Usage: check.py FOLDER, where FOLDER holds what interop.rs of xtask made: picks.csv converted to every format, and
volume.mrc. Every number below is that of picks.csv, moved by the format's own conventions.
"""

import json
import pathlib
import sys

import numpy as np

folder = pathlib.Path(sys.argv[1])
SIZE = 10.0
POSITIONS = np.array([[100.25, 50.5, 30.125], [40.0, 20.0, 10.0]])
CENTRE = np.array([200.0, 150.0, 100.0])
ANGLES = {"phi": 10.0, "psi": 20.0, "the": 30.0}
checked = []


def same(name, found, expected, tolerance=1e-3):
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    assert found.shape == expected.shape and np.allclose(found, expected, atol=tolerance), f"{name}:\n{found}\nis not\n{expected}"
    checked.append(name)


def zxz(phi, psi, the):
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("zxz", [phi, the, psi], degrees=True)


def relion():
    import starfile
    from scipy.spatial.transform import Rotation

    tables = starfile.read(folder / "relion5.star", always_dict=True)
    particles = tables["particles"]
    columns = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    same("relion 5 positions", particles[columns], (POSITIONS - CENTRE / 1) * SIZE)
    rotation = Rotation.from_euler("ZYZ", particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()[0], degrees=True)
    same("relion 5 angles", rotation.inv().as_matrix(), zxz(**ANGLES).as_matrix())
    assert list(particles["rlnTomoName"]) == ["TS_01"] * 2
    same("relion 5 optics", tables["optics"]["rlnTomoTiltSeriesPixelSize"], [2.0])
    particles = starfile.read(folder / "relion4.star", always_dict=True)["particles"]
    same("relion 4 positions", particles[[f"rlnCoordinate{axis}" for axis in "XYZ"]], POSITIONS)
    motl = starfile.read(folder / "stopgap.star")
    found = np.stack([motl[f"orig_{axis}"] + motl[f"{axis}_shift"] for axis in "xyz"], axis=1)
    same("stopgap positions", found, POSITIONS + 1)
    boxes = starfile.read(folder / "picks.cbox", always_dict=True)["cryolo"]
    found = np.stack([boxes["CoordinateX"] + boxes["Width"] / 2, boxes["CoordinateY"] + boxes["Height"] / 2, boxes["CoordinateZ"]], axis=1)
    same("cbox positions", found, POSITIONS)
    same("cbox scores", boxes["Confidence"], [0.5, 0.25])


def spreadsheet():
    import openpyxl

    titles, *rows = openpyxl.load_workbook(folder / "picks.xlsx").active.values
    rows = [dict(zip(titles, row)) for row in rows]
    same("xlsx positions", [[row[axis] for axis in "xyz"] for row in rows], POSITIONS)
    same("xlsx angles", [rows[0]["phi"], rows[0]["psi"], rows[0]["theta"]], [ANGLES["phi"], ANGLES["psi"], ANGLES["the"]])
    assert [(row["Tomo IDX"], row["Object ID"], row["Class label"]) for row in rows] == [("TS_01", 1, 1), ("TS_01", 2, 2)]


def em():
    import emfile

    _, motl = emfile.read(folder / "av3.em")
    rows = np.squeeze(motl)
    same("av3 positions", rows[:, 7:10] + rows[:, 10:13], POSITIONS + 1)
    same("av3 angles", rows[0, 16:19], [ANGLES["phi"], ANGLES["psi"], ANGLES["the"]])
    _, volume = emfile.read(folder / "volume.em")
    same("em voxels", volume, voxels())


def imod():
    import imodmodel
    from scipy.spatial.transform import Rotation

    points = imodmodel.read(folder / "imod.mod")
    same("imod positions", points[["x", "y", "z"]], POSITIONS + [0.5, 0.5, 0.0])
    assert list(points["object_id"]) == [0, 1]
    angles = imodmodel.read(folder / "imod.mod", annotation="slicer_angles")
    same("imod slicer places", angles[["center_x", "center_y", "center_z"]], POSITIONS + [0.5, 0.5, 0.0])
    # About z first, then y, then x.
    rotation = Rotation.from_euler("zyx", angles[["z_rot", "y_rot", "x_rot"]].to_numpy()[0], degrees=True)
    same("imod slicer angles", rotation.inv().as_matrix(), zxz(**ANGLES).as_matrix())


def copick():
    import copick

    root = copick.from_file(str(folder / "copick.json"))
    run = root.get_run("TS_01")
    for name, position in zip(["ribosome", "proteasome"], POSITIONS):
        picks = run.get_picks(object_name=name, user_id="deepfinder", session_id="1")[0]
        point = picks.points[0]
        same(f"copick {name}", [point.location.x, point.location.y, point.location.z], position * SIZE)
    matrix = run.get_picks(object_name="ribosome")[0].points[0].transformation
    same("copick matrix", np.asarray(matrix)[:3, :3], zxz(**ANGLES).as_matrix())
    segmentation = run.get_segmentations(user_id="deepfinder", is_multilabel=True)[0]
    same("copick segmentation", segmentation.numpy(), np.arange(60).reshape(3, 4, 5))


def volumes():
    import h5py
    import mrcfile
    import tifffile
    import zarr

    with mrcfile.open(folder / "volume.mrc.gz") as file:
        same("mrc.gz voxels", file.data, voxels())
        same("mrc.gz voxel size", file.voxel_size.x, SIZE)
    assert mrcfile.validate(str(folder / "volume.mrc")), "volume.mrc is no valid MRC2014"
    with h5py.File(folder / "volume.h5") as file:
        same("hdf5 voxels", file["dataset"][:], voxels())
    same("tiff voxels", tifffile.imread(folder / "volume.tif"), voxels())
    same("npy voxels", np.load(folder / "volume.npy"), voxels())
    group = zarr.open(str(folder / "volume.zarr"), mode="r")
    same("zarr voxels", group["0"][:], voxels())
    level = group.attrs["multiscales"][0]["datasets"][1]
    same("zarr scale", level["coordinateTransformations"][0]["scale"], [2 * SIZE] * 3)
    if int(zarr.__version__.split(".")[0]) >= 3:
        group = zarr.open(str(folder / "volume05.zarr"), mode="r")
        same("zarr 3 voxels", group["0"][:], voxels())


def voxels():
    return np.arange(6 * 7 * 8, dtype="f4").reshape(6, 7, 8)


missing = []
for check in [relion, spreadsheet, em, imod, copick, volumes]:
    try:
        check()
    except ImportError as error:
        missing.append(f"{check.__name__}: {error}")
print(json.dumps({"checked": checked, "missing": missing}, indent=1))
sys.exit(1 if missing else 0)
