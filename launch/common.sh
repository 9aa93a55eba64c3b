# shellcheck shell=bash
# Shared by the launch scripts: options, commands that a dry run only prints, topologies.
# Needs bash 4.4 or newer.

declare -A OPTION=([dry-run]=no) # each script adds its own; options with the default "no" take no value
ARGUMENTS=()                     # the arguments after --

# die MESSAGE: print an error in one line, exit with code 2.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# usage: print the comment at the head of the script.
usage() {
    sed -n '2,/^[^#]*$/s/^#\( \|$\)//p' "$0"
}

# parse ARGUMENTS...: fill OPTION and ARGUMENTS.
parse() {
    local name
    while (($#)); do
        [[ $1 == --help || $1 == -h ]] && usage && exit 0
        [[ $1 == -- ]] && ARGUMENTS=("${@:2}") && return
        [[ $1 == --* ]] || die "unexpected argument '$1'; jaxtal.main's arguments come after --"
        name=${1#--} name=${name%%=*}
        [[ $name =~ ^[a-z-]+$ && -v OPTION[$name] ]] || die "unknown option --$name; $0 --help lists the options"
        if [[ ${OPTION[$name]} =~ ^(no|yes)$ ]]; then
            OPTION[$name]=yes
        elif [[ $1 == *=* ]]; then
            OPTION[$name]=${1#*=}
        else
            (($# > 1)) || die "--$name needs a value"
            OPTION[$name]=$2
            shift
        fi
        shift
    done
}

# want NAMES...: require a value of these options.
want() {
    local name
    for name in "$@"; do
        [[ ${OPTION[$name]} ]] || die "--$name is missing; $0 --help lists the options"
    done
}

# want_number NAMES...: require a number as the value of these options.
want_number() {
    local name
    for name in "$@"; do
        [[ ${OPTION[$name]} =~ ^[0-9]+$ ]] || die "--$name is '${OPTION[$name]}'; wanted a number"
    done
}

# want_run: require a config and a work directory that all processes share.
want_run() {
    [[ $(argument config "${ARGUMENTS[@]}") ]] || die "no --config after --; for a first run" \
        "-- --config configs/co2net_demo.py --workdir FOLDER"
    [[ $(argument workdir "${ARGUMENTS[@]}") ]] || die "no --workdir after --; give a folder that" \
        "all processes share"
}

# quote WORDS...: print one line that a shell parses into these words.
quote() {
    local word line='' apostrophe="'\\''"
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
            line+=" $word"
        else
            line+=" '${word//\'/$apostrophe}'"
        fi
    done
    printf '%s' "${line# }"
}

# execute COMMAND...: run the command; on a dry run print it.
execute() {
    if [[ ${OPTION[dry-run]} == yes ]]; then
        printf '%s\n' "$(quote "$@")"
        return
    fi
    type -P "$1" >/dev/null || die "$1 is not installed; --dry-run shows what would run"
    command "$@" # not a function of this name
}

# argument NAME ARGUMENTS...: print the last value of --NAME=VALUE or --NAME VALUE, if any.
argument() {
    local name=$1 value=''
    shift
    while (($#)); do
        case $1 in
            "--$name="* | "-$name="*) value=${1#*=} ;;
            "--$name" | "-$name") value=${2-} ;;
        esac
        shift
    done
    printf '%s' "$value"
}

# check_mesh DEVICES ARGUMENTS...: require that a fully specified mesh has all the devices.
check_mesh() {
    local devices=$1 member data
    shift
    member=$(argument config.mesh.member "$@")
    data=$(argument config.mesh.data "$@")
    if [[ ! $member =~ ^[0-9]+$ || ! $data =~ ^[0-9]+$ ]]; then
        return 0 # a size is -1 or set in the config; jaxtal.main checks it
    fi
    ((member * data == devices)) || die "config.mesh.member $member x config.mesh.data $data =" \
        "$((member * data)) devices, but there are $devices; set one of them to -1"
}

# chips_of TYPE: print the number of chips (JAX devices) of a TPU slice. The number in v4 and v5p
# types counts cores, two per chip; in v5e and v6e types it counts chips.
chips_of() {
    local number=${1##*-}
    case $1 in
        v5litepod-1 | v5litepod-4 | v5litepod-8 | v6e-1 | v6e-4 | v6e-8) ;;
        v5litepod-16 | v5litepod-32 | v5litepod-64 | v5litepod-128 | v5litepod-256) ;;
        v6e-16 | v6e-32 | v6e-64 | v6e-128 | v6e-256) ;;
        v4-*[!0-9]* | v5p-*[!0-9]*) number=0 ;;
        v4-?* | v5p-?*) number=$((10#$number % 8 ? 0 : 10#$number / 2)) ;;
        *) number=0 ;;
    esac
    ((number)) || die "unknown TPU type '$1'; known: v4-N and v5p-N (N cores, a multiple of 8)," \
        "v5litepod-N and v6e-N (N chips: 1, 4, 8, 16, 32, 64, 128, 256)"
    printf '%s' "$number"
}

# check_tpu TYPE MAX: print the topology, check the mesh, set CHIPS. Slices of at most MAX chips
# have one host, larger ones have 4 chips per host.
check_tpu() {
    local hosts=1
    CHIPS=$(chips_of "$1")
    if ((CHIPS > $2)) || [[ $1 == v[45]* && $1 != v5litepod-* ]]; then
        hosts=$((CHIPS / 4))
    fi
    printf 'topology: %s = %d chips on %d hosts\n' "$1" "$CHIPS" "$hosts"
    check_mesh "$CHIPS" "${ARGUMENTS[@]}"
}
