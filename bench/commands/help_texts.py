"""What `--help` says beyond the options."""

from __future__ import annotations

EPILOG = """\
configuration: key=value after the command, later wins over the method's config.yaml, e.g.
  python -m bench run mavil                                  sample data, preset tiny
  python -m bench run mavil data_root=/datasets trainer.devices=8 preset=paper
  python -m bench run mavil stage=finetune_vggsound_av seed=1 stages.finetune_vggsound_av.epochs=5
"""
CHECK_HELP = """\
Reports which part of a dataset can be used, and why the rest cannot. Exits with 1 if a board cannot be measured.
  data_root=FOLDER          with one folder a dataset, or data.root=FOLDER, its own; default: the sample data
  data.media=auto           clips, videos or auto, where the dataset's usual kind is not yours
  data.min_coverage=0.85    of a board's official clips
  kinds=2d,3d               feature files to look for, below features=FOLDER or the dataset's own folder
  data.inputs.KEY=value     streams that methods are to read, as in their configuration: what of each is missing or
                            damaged, e.g. data.inputs.streams.where.kind=mask data.inputs.text.length=20
                            (kinds and their settings: bench data streams); exits with 1 if one has no clip at all
  workers=0                 processes; 0 = one a core
"""
PACK_HELP = """\
Writes WebDataset shards with an index; resumes where it was cut off. Read them with data.packed=FOLDER_OR_URL.
  to=FOLDER_OR_URL      a folder, or any fsspec URL
  splits=train+test     default: all
  sample_rate=16000     of the sound, Hz; 0 = none
  fps=4                 frames kept a second, a multiple of the methods' rates; 0 = none
  size=256              pixels, at least the methods' training size
  data.inputs.KEY=value streams that are to be read from the pack, as in a method's configuration: it holds the files
                        of their own that these read, e.g. data.inputs.streams.where.kind=mask
  workers=0             processes; 0 = one a core
"""
FEATURES_HELP = """\
Writes <video>_<kind>.npy; resumes where it was cut off.
  to=FOLDER
  kind=2d               2d: timm, 1 frame a second; 3d: torchvision, 16 frames at 24 a second
  model=resnet152       the library's name; r3d_18 for 3d
  weights=FILE          a checkpoint, or pretrained=true to download the library's
  device=cpu            or cuda
  batch=32
"""
REGRESS_HELP = """\
Runs a suite of short trainings and compares each with the baseline of this class of machine (CPU and cores, or GPU and
their number); where none is stored, with the last commit, both trained side by side. What decides:
  metrics         on the clips that both sides measured; worse by a paired bootstrap, p <= 0.05 over a board's metrics
  training step   its lower quartile; worse if the 95 % interval of the ratio is above the suite's tolerance
  peak memory     worse if the ratio is above the suite's tolerance
Exits with 0, with 1 if something got worse or a run failed, with 2 on a user's mistake. In GitHub Actions the table is
added to the step's summary. See docs/regression.md.
"""
COMPARE_HELP = """\
Compares two methods on the clips that both were measured on: each metric's difference (B - A) with its 95 % interval
and p-value by a paired bootstrap over clips, and the classes that gain and lose most. Methods that were measured
by different protocols are refused. Where a name matches several rows, they are listed, and a record's id selects one,
with all of its seeds and folds. Reads the predictions that the runs left in --runs.
  python -m bench compare cmkd baseline_cnn --board fsd50k
  python -m bench compare mavil/finetune_vggsound_av mavil/finetune_vggsound_a --board sample/vggsound
"""
SWEEP_HELP = """\
  python -m bench sweep mavil mbt uavm --data vggsound --seeds 0 1 2
  python -m bench sweep mavil mbt data_root=/datasets trainer.devices=8 --launcher slurm --slurm partition=gpu time=2-0
  python -m bench sweep mavil mbt mavil.variant=scratch         a setting for one of the methods
  python -m bench sweep mavil --grid stages.pretrain.options.mask_ratio=0.7,0.8
A job is a stage: what several runs share is run once. On this machine each job has trainer.devices GPUs or cores for
itself. Finished jobs are not run again; the same command resumes, and retries failed ones. Exits with 1 if a job
failed. More: docs/sweeps.md
"""
