#!/bin/bash
# dictlearn train on a GKE cluster of TPU slices, through xpk (its own tool: pipx install xpk).
#
#   launch/gke.sh NAME CLUSTER ZONE TPU_TYPE IMAGE ARGUMENT...   e.g. sae-1 pod us-east5-a v5p-128 gcr.io/me/dictlearn --config=...
#   DRY_RUN=1 launch/gke.sh ...                                  prints the command
#
# IMAGE has this repository installed (launch/README.md has its Dockerfile). xpk makes a JobSet; where a pod exits
# with 75 (SIGTERM, preemption) or by a signal, the whole set is started again, at most RESTARTS
# times (default 20), and goes on from its newest checkpoint. SLICES (default 1) of the type are used.
set -eu
if (( $# < 6 )); then sed -n '2,10p' "$0" | cut -c3-; exit 2; fi
name=$1 cluster=$2 zone=$3 type=$4 image=$5; shift 5
run() { if [[ -n ${DRY_RUN:-} ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }
run xpk workload create --workload="$name" --cluster="$cluster" --zone="$zone" \
  --tpu-type="$type" --num-slices="${SLICES:-1}" --docker-image="$image" \
  --max-restarts="${RESTARTS:-20}" --restart-on-exit-codes=75 --termination-grace-period-seconds=120 \
  --command="exec dictlearn train --coordinator=auto$(printf ' %q' "$@")"
