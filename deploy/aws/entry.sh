set -eu
# Every task of Dagster's finds the same dagster.yaml in the shared home; it appears whole.
folder=$MLOPS_HOME/dagster
mkdir -p "$folder"
draft=$(mktemp "$folder/.dagster.XXXXXX")
printf '%s' "$MLOPS_DAGSTER_YAML" > "$draft"
mv "$draft" "$folder/dagster.yaml"
exec mlops exec -- "$@"
