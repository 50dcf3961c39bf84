#!/bin/bash
# dictlearn train on every worker of a TPU VM (a queued resource of one slice), started again when stopped.
#
#   launch/tpu_vm.sh NAME ZONE ACCELERATOR ARGUMENT...      e.g. sae-1 us-east5-a v5p-128 --config=... --workdir=/BUCKET/...
#   DRY_RUN=1 launch/tpu_vm.sh ...                          prints the commands
#
# Creates the queued resource unless it is there, installs this repository on all workers, and runs
# `dictlearn train` on all of them. Exit 75 (SIGTERM), a death by signal, and a preempted slice are followed by
# another attempt, at most RESTARTS (default 20); the run goes on from its newest checkpoint. The resource
# is left for you to delete:   gcloud compute tpus queued-resources delete NAME --zone=ZONE --force
# RUNTIME names the VM image, SPOT=1 asks for a spot slice.
set -u
if (( $# < 4 )); then sed -n '2,12p' "$0" | cut -c3-; exit 2; fi
name=$1 zone=$2 accelerator=$3; shift 3
repository=$(cd "$(dirname "$0")/.." && pwd)
run() { if [[ -n ${DRY_RUN:-} ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }
on_all() { run gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"; }
state() {
  gcloud compute tpus queued-resources describe "$name" --zone="$zone" --format='value(state.state)' 2>/dev/null
}

create() {
  run gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$accelerator" --runtime-version="${RUNTIME:-v2-alpha-tpuv5}" ${SPOT:+--spot}
  [[ -n ${DRY_RUN:-} ]] || until [[ $(state) == ACTIVE ]]; do sleep 30; done
}

install() {
  run gcloud compute tpus tpu-vm scp --recurse --zone="$zone" --worker=all "$repository" "$name:dictlearn"
  on_all "python3 -m venv v && v/bin/pip install --quiet -e 'dictlearn[tpu]'"
}

train="cd dictlearn && ../v/bin/dictlearn train --coordinator=auto$(printf ' %q' "$@")"
for (( attempt = 0; attempt <= ${RESTARTS:-20}; attempt++ )); do
  if [[ -n ${DRY_RUN:-} || $(state) != ACTIVE ]]; then
    (( attempt == 0 )) || run gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
    create
    install
  fi
  on_all "$train"
  status=$?
  [[ -n ${DRY_RUN:-} || $status -lt 75 || ( $status -gt 75 && $status -lt 128 ) ]] && exit $status
  echo "launch: exit $status, attempt $(( attempt + 2 ))" >&2
done
exit $status
