#!/bin/bash
# A run on the nodes of a Slurm job, with ssh between them:  sbatch configs/cluster/slurm.sh configs/pretrain/roberta-base.yaml
# Ten minutes before its end Slurm signals this script alone; the run saves, exits with 75, and the job is queued again.
#SBATCH --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --exclusive
#SBATCH --time=24:00:00 --signal=B:USR1@600 --requeue --open-mode=append
hosts="hosts-$SLURM_JOB_ID"
scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/\$/ slots=$SLURM_GPUS_ON_NODE/" > "$hosts"
trap 'kill -USR1 $run' USR1
kilobatch launch --hostfile "$hosts" "$@" & run=$!
until wait $run; code=$?; [ $code != 138 ] || ! kill -0 $run; do :; done # 138: the signal came in between
[ $code != 75 ] || exec scontrol requeue "$SLURM_JOB_ID"
exit $code
