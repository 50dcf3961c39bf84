#!/bin/bash
# Brings up Slurm on this machine alone, runs a command under it, and takes it down:
#
#   tests/launch/slurm.sh sbatch --wait --ntasks=2 launch/slurm.sbatch --config=... --workdir=...
#
# As root, with Debian's packages (apt-get install slurm-wlm munge). Nothing outside a temporary folder is
# written, and a Slurm that the machine has is left alone. Exit 77: Slurm cannot start here, and why.
set -u
folder=$(mktemp -d /tmp/slurm-XXXXXX)
chmod 755 "$folder"
started=()
# slurmctld lingers after SIGTERM; what it would save is thrown away.
finish() { { timeout 10 scancel --user=root; kill -9 "${started[@]}"; wait; } 2>/dev/null; rm -rf "$folder"; }
trap finish EXIT
cannot() { echo "SKIPPED: Slurm cannot start here: $1" >&2; tail -n 5 "$folder"/*.log >&2 2>/dev/null; exit 77; }

[[ $(id -u) == 0 ]] || cannot "not root."
for program in munged slurmctld slurmd sbatch; do
  command -v $program >/dev/null || cannot "no $program; apt-get install slurm-wlm munge."
done
export SLURM_CONF=$folder/slurm.conf
host=$(hostname -s)
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }
cat > "$SLURM_CONF" <<END
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(port)
SlurmdPort=$(port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
mkdir "$folder/state" "$folder/spool"
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" >/dev/null 2>&1 &
started+=($!)
for _ in $(seq 50); do [[ -S $folder/munge.socket ]] && break; sleep 0.1; done
[[ -S $folder/munge.socket ]] || cannot "munged did not start."
slurmctld -D -c > "$folder/slurmctld.log" 2>&1 &
started+=($!)
slurmd -D -c > "$folder/slurmd.log" 2>&1 &
started+=($!)
for _ in $(seq 300); do [[ $(sinfo -h -o %t 2>/dev/null) == idle ]] && break; sleep 0.1; done
[[ $(sinfo -h -o %t 2>/dev/null) == idle ]] || cannot "no node is idle after 30 s."
"$@"
