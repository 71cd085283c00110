#!/bin/sh
# Puts the release of this bundle into its directory on this host. Needs neither `ci`, root nor a network.
# Without --yes it only looks, and says what it would do. RUNBOOK.md beside it is the long form.
set -u
LC_ALL=C; export LC_ALL
umask 022
TAB=$(printf '\t')

usage() {
    cat <<'USAGE'
usage: sh install.sh [--yes] [--dir DIR] [--strategy hot|restart|fresh] [--rollback]
                     [--allowed-signers FILE] [--report FILE] [--sign KEY]

  (nothing)               look and say what would be done; nothing is changed
  --yes                   do it
  --dir DIR               directory of the release, in place of the one that the bundle names
  --strategy WAY          take this way and no other
  --rollback              go back to the version that this bundle's installation replaced
  --allowed-signers FILE  ssh's list of signers: the bundle's signature must be of one of them
                          [default: ~/.ssh/allowed_signers, if it is there]
  --report FILE           where the report goes that you send back
  --sign KEY              sign the report with this ssh key

exit codes: 0 done or nothing to do; 1 failed, what ran before still runs;
            2 wrong arguments; 3 refused, nothing was changed; 4 failed and rolled back
USAGE
}

# --- words ---------------------------------------------------------------------------------------------------
say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
refuse() { OUTCOME=refused; MESSAGE=$*; printf 'refused: %s\n' "$*" >&2; exit 3; }
usage_error() { OUTCOME=; printf '%s\n' "$*" >&2; usage >&2; exit 2; }
STEPS=
step_ok() { say "ok    $1"; note_step "$1" true; }
step_failed() { say "FAIL  $1"; note_step "$1" false; }
note_step() { STEPS="$STEPS${STEPS:+, }{\"name\": $(json "$1"), \"ok\": $2}"; }
json() {
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}
# the value of the first line KEY<TAB>VALUE; keys are constants of this script
fact() { sed -n "s/^$1$TAB//p" "$B/facts" | head -n 1; }
facts() { sed -n "s/^$1$TAB//p" "$B/facts"; }
# field N of a line of fields
field() { printf '%s\n' "$2" | cut -f "$1"; }
sum() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"
    elif command -v shasum >/dev/null 2>&1; then shasum -a 256 <"$1"
    else openssl dgst -sha256 -r <"$1"; fi | cut -d ' ' -f 1
}
limit() {
    seconds=$1; shift
    if command -v timeout >/dev/null 2>&1; then timeout "$seconds" "$@"; else "$@"; fi
}
now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# --- arguments and facts -------------------------------------------------------------------------------------
B=$(cd "$(dirname -- "$0")" && pwd) || exit 2
YES= ROLLBACK= DIR= WAY= SIGNERS= REPORT= KEY= OUTCOME= MESSAGE= FROM= STRATEGY= PID= PID_BEFORE= INTERRUPTED=
while [ $# -gt 0 ]; do
    case $1 in
        --yes) YES=1 ;;
        --rollback) ROLLBACK=1 ;;
        --dir|--strategy|--allowed-signers|--report|--sign)
            [ $# -ge 2 ] || usage_error "$1 needs a value"
            case $1 in
                --dir) DIR=$2 ;; --strategy) WAY=$2 ;; --allowed-signers) SIGNERS=$2 ;;
                --report) REPORT=$2 ;; --sign) KEY=$2 ;;
            esac
            shift ;;
        -h|--help) usage; exit 0 ;;
        *) usage_error "unknown argument: $1" ;;
    esac
    shift
done
case $WAY in ''|hot|restart|fresh) ;; *) usage_error "--strategy is hot, restart or fresh" ;; esac
for tool in sed awk tr cut tar gzip df; do
    command -v "$tool" >/dev/null 2>&1 || { echo "refused: \`$tool\` is not installed here" >&2; exit 3; }
done
[ -f "$B/facts" ] && [ -f "$B/SHA256SUMS" ] || { echo "refused: $B is not a whole bundle" >&2; exit 3; }
N=$(fact name) V=$(fact version) ENVIRONMENT=$(fact environment) ERTS=$(fact erts)
for word in "$N" "$V" "$ENVIRONMENT" "${ERTS:-0}"; do
    case $word in
        ''|.*|-*|*[!A-Za-z0-9._+~-]*) echo "refused: the bundle's facts hold an odd name" >&2; exit 3 ;;
    esac
done
T=${DIR:-$(fact directory)}
case $T in
    /|*/../*|*/..|*"$TAB"*) usage_error "the directory must be an absolute path below /, without .." ;;
    /*) ;;
    *) usage_error "the directory must be an absolute path" ;;
esac
T=${T%/}
HOST=$(uname -n)
REPORT=${REPORT:-$PWD/$N-$V-$ENVIRONMENT-$HOST-report.json}
STARTED=$(now)
W=

write_report() {
    {
        printf '{\n  "format": 1,\n  "kind": "slipway-receipt",\n'
        for pair in "bundle $BUNDLE" "environment $ENVIRONMENT" "release $N" "version $V" "content $(fact content)" \
            "host $HOST" "started $STARTED" "ended $(now)" "strategy $STRATEGY" "outcome $OUTCOME"; do
            printf '  "%s": %s,\n' "${pair%% *}" "$(json "${pair#* }")"
        done
        printf '  "directory": %s,\n  "user": %s,\n' "$(json "$T")" "$(json "$(id -un 2>/dev/null)")"
        if [ -n "$FROM" ]; then printf '  "from": %s,\n' "$(json "$FROM")"; else printf '  "from": null,\n'; fi
        printf '  "message": %s,\n' "$(json "$MESSAGE")"
        printf '  "process_before": %s,\n  "process": %s,\n  "steps": [%s]\n}\n' "${PID_BEFORE:-null}" "${PID:-null}" "$STEPS"
    } >"$REPORT" || { warn "the report could not be written to $REPORT"; return; }
    if [ -n "$KEY" ]; then
        rm -f "$REPORT.sig"
        ssh-keygen -q -Y sign -f "$KEY" -n slipway-receipt "$REPORT" || warn "the report could not be signed"
    fi
    say "report: $REPORT (send it back${KEY:+, with $REPORT.sig})"
}
finish() {
    code=$?
    trap - EXIT HUP INT TERM
    [ -z "$W" ] || rm -rf "$W"
    if [ -n "${LOCKED:-}" ]; then ! held || rm -rf "$T/.ci-lock"; rmdir "$T/.ci" 2>/dev/null; fi
    [ -z "$YES" ] || [ -z "$OUTCOME" ] || write_report
    exit "$code"
}
trap finish EXIT
# a lost terminal must not stop it half-way
trap '' HUP
trap 'MESSAGE="interrupted"; OUTCOME=${OUTCOME:-failed}; exit 1' INT TERM

# --- 1. the bundle itself ------------------------------------------------------------------------------------
BUNDLE=$(sum "$B/SHA256SUMS")
verify_files() {
    listed=0
    while IFS= read -r line; do
        want=${line%%  *} file=${line#*  }
        case $file in /*|../*|*/../*|*/..) refuse "SHA256SUMS names $file, outside the bundle" ;; esac
        [ -f "$B/$file" ] || refuse "the bundle is not whole: $file is missing; fetch it again"
        [ "$(sum "$B/$file")" = "$want" ] || refuse "$file was changed after the bundle was made; fetch it again, and ask whoever sent it"
        listed=$((listed + 1))
    done <"$B/SHA256SUMS"
    [ "$listed" -gt 0 ] || refuse "SHA256SUMS is empty"
}
verify_signature() {
    [ -n "$SIGNERS" ] || [ ! -f "${HOME:-/}/.ssh/allowed_signers" ] || SIGNERS=$HOME/.ssh/allowed_signers
    if [ -z "$SIGNERS" ]; then
        if [ -f "$B/SHA256SUMS.sig" ]; then
            say "signature: not checked; give --allowed-signers FILE (the senders' public keys) to check it"
        else
            say "signature: this bundle is not signed"
        fi
        return 0
    fi
    command -v ssh-keygen >/dev/null 2>&1 || refuse "ssh-keygen is not here, so the signature can't be checked"
    [ -f "$B/SHA256SUMS.sig" ] || refuse "the bundle is not signed, and $SIGNERS asks for a signature"
    who=$(ssh-keygen -Y find-principals -s "$B/SHA256SUMS.sig" -f "$SIGNERS" 2>/dev/null | head -n 1)
    [ -n "$who" ] || refuse "the bundle was signed with a key that is not in $SIGNERS"
    ssh-keygen -Y verify -f "$SIGNERS" -I "$who" -n slipway-bundle -s "$B/SHA256SUMS.sig" <"$B/SHA256SUMS" >/dev/null 2>&1 ||
        refuse "the bundle's signature by $who does not fit: it was changed after it was signed"
    say "signature: good, by $who"
}
say "$N $V for $ENVIRONMENT, bundle $BUNDLE"
verify_files
verify_signature

# --- what every way needs ------------------------------------------------------------------------------------
allowed() { case " $(fact allow) " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
near() { near=$T; while [ ! -e "$near" ]; do near=${near%/*}; near=${near:-/}; done; printf '%s' "$near"; }
check_place() {
    [ -w "$(near)" ] || refuse "$(id -un) may not write to $(near)"
    free=$(df -Pk "$(near)" | awk 'NR == 2 { print $4 }')
    need=$(fact disk_kib)
    case $STRATEGY in hot) need=$((need / 4)) ;; esac
    [ "${free:-0}" -ge "$need" ] || refuse "$free KiB are free in $(near), $need are needed"
    if [ -n "$(facts health | grep '^http')" ] && ! command -v curl >/dev/null 2>&1 && ! command -v wget >/dev/null 2>&1; then
        refuse "a health check asks by http, and neither curl nor wget is here"
    fi
}
# as `ci deploy` does: a lock says which process holds it, and since when that runs
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }
lives() { [ -f "$1" ] && read -r pid since <"$1" && [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]; }
busy() { for run in "$T"/.ci/run-*; do [ ! -f "$run/rc" ] && lives "$run/pid" && return 0; done; return 1; }
held() { [ "$(cat "$T/.ci-lock/holder" 2>/dev/null)" = "$LOCKED" ] || { MESSAGE="the lock was taken away"; return 1; }; }
lock() {
    mkdir -p "$T" || refuse "$T can't be made"
    gone=$(cat "$T/.ci-lock/holder" 2>/dev/null)
    if [ -n "$gone" ] && ! lives "$T/.ci-lock/holder" && ! busy && mv "$T/.ci-lock" "$T/.ci-lock-$$"; then
        [ "$(cat "$T/.ci-lock-$$/holder")" = "$gone" ] || { mv "$T/.ci-lock-$$" "$T/.ci-lock"; refuse "somebody else has just locked $T"; }
        say "lock:     taken over from $(cat "$T/.ci-lock-$$/owner" 2>/dev/null), who is gone"
        rm -rf "$T/.ci-lock-$$"
    fi
    if ! mkdir "$T/.ci-lock" 2>/dev/null; then
        refuse "$T is locked by $(cat "$T/.ci-lock/owner" 2>/dev/null || echo somebody); when that is over: rm -r $T/.ci-lock"
    fi
    LOCKED="$$ $(started $$)"
    printf '%s\n' "$LOCKED" >"$T/.ci-lock/holder"
    printf '%s\n' "$(id -un)@$HOST install.sh $V since $(now)" >"$T/.ci-lock/owner"
    mkdir -p "$T/.ci" || refuse "$T/.ci can't be made"
    W=$T/.ci/bundle-$$
    rm -rf "$T"/.ci/bundle-* && mkdir -p "$W" || refuse "$W can't be made"
}
healthy() { # every check within its time, then all of them through the soak time
    facts health >"$W/health"
    while IFS= read -r line; do
        tries=$(field 2 "$line")
        until one_check "$(field 1 "$line")" "$(field 3 "$line")"; do
            [ -z "$INTERRUPTED" ] || { MESSAGE=interrupted; return 1; }
            [ "$tries" -gt 0 ] || { MESSAGE="health check $(field 1 "$line") $(field 3 "$line") does not hold"; return 1; }
            tries=$((tries - 1)); sleep 1
        done
    done <"$W/health"
    left=$(fact soak)
    while [ "$left" -gt 0 ]; do
        sleep 1; left=$((left - 1))
        [ -z "$INTERRUPTED" ] || { MESSAGE=interrupted; return 1; }
        while IFS= read -r line; do
            one_check "$(field 1 "$line")" "$(field 3 "$line")" || { MESSAGE="health check $(field 1 "$line") $(field 3 "$line") stopped holding"; return 1; }
        done <"$W/health"
    done
}
one_check() {
    case $1 in
        http)
            if command -v curl >/dev/null 2>&1; then
                case $(curl -s -o /dev/null -m 10 -w '%{http_code}' -- "$2" </dev/null 2>/dev/null) in 2??|3??) return 0 ;; *) return 1 ;; esac
            fi
            wget -q -T 10 -O /dev/null -- "$2" </dev/null 2>/dev/null ;;
        tcp)
            case $2 in *[!A-Za-z0-9.:-]*) return 1 ;; esac
            if command -v nc >/dev/null 2>&1; then nc -z -w 5 "${2%:*}" "${2##*:}" </dev/null >/dev/null 2>&1; return; fi
            if command -v bash >/dev/null 2>&1; then limit 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "${2%:*}" "${2##*:}" 2>/dev/null; return; fi
            case $(limit 15 "$TOOL" eval "element(1,gen_tcp:connect(\"${2%:*}\",${2##*:},[],5000))." </dev/null 2>&1) in ok) return 0 ;; *) return 1 ;; esac ;;
        eval) case $(limit 30 "$TOOL" eval "$2" </dev/null 2>&1 | tr -d '[:space:]') in true|ok) return 0 ;; *) return 1 ;; esac ;;
        command) limit 60 sh -c "$2" </dev/null >/dev/null 2>&1 ;;
        *) return 1 ;;
    esac
}
