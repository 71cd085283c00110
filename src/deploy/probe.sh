# One query. Prints lines `KEY<TAB>VALUE...` between two sentinels; whatever a login shell prints before is skipped.
TAB=$(printf '\t')
say() { printf '%s\t%s\n' "$1" "$2"; }
limit() { if command -v timeout >/dev/null 2>&1; then timeout 30 "$@"; else "$@"; fi; }

echo slipway:begin
say user "$(id -un 2>/dev/null)"
for tool in sha256sum shasum openssl tar gzip setsid nohup; do
    command -v "$tool" >/dev/null 2>&1 && say tool "$tool"
done

near=$T
while [ ! -e "$near" ] && [ "$near" != "${near%/*}" ]; do near=${near%/*}; done
near=${near:-/}
[ -w "$near" ] && [ -x "$near" ] && say writable yes
say free "$(df -Pk "$near" 2>/dev/null | awk 'NR == 2 { print $4 }')"

if [ -d "$T" ]; then
    [ -L "$T/current" ] && [ -d "$T/versions" ] && say versioned yes
    say root "$(cd "$T" 2>/dev/null && pwd -P)"
    if [ -e "$T/bin/$N" ]; then
        say script "$(sed -n 's/^REL_VSN="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$T/bin/$N" 2>/dev/null | head -n 1)"
    fi
    [ -e "$T/releases/start_erl.data" ] && say start "$(cat "$T/releases/start_erl.data" 2>/dev/null)"
    if [ -e "$T/releases/RELEASES" ]; then
        sed "s/^/releases$TAB/" "$T/releases/RELEASES" 2>/dev/null
        echo
    fi
    # an exchange that was begun has to be ended
    [ -e "$T/.ci/switch/ran" ] || [ -e "$T/.ci/switch/parts" ] && say unfinished yes
    busy && say busy yes
    # what a living deployment needs is not left over
    if ! owned "$T/.ci-lock"; then
        [ -e "$T/.ci-lock/holder" ] && say left .ci-lock
        for entry in "$T"/.ci/run-* "$T/.ci/switch" "$T/releases/$N"-*.tar.gz "$T/releases/$N"-*.tar.gz.part*; do
            [ -e "$entry" ] && say left "${entry#"$T"/}"
        done
    fi
    for entry in "$T"/.ci/bad/*; do
        [ -f "$entry" ] && say bad "${entry##*/}$TAB$(head -n 1 "$entry" 2>/dev/null)"
    done
    for entry in "$T"/releases/*/.replaced; do
        [ -f "$entry" ] || continue
        version=${entry%/.replaced}
        say replaced "${version##*/}$TAB$(head -n 1 "$entry" 2>/dev/null)"
    done
    for entry in "$T"/lib/* "$T"/releases/*; do
        [ -d "$entry" ] && say entry "${entry#"$T"/}"
    done
fi

if [ -r /proc/self/cmdline ]; then
    [ -d /proc/1 ] && say proc all
    for file in $(grep -la -e '-root' /proc/[0-9]*/cmdline 2>/dev/null); do
        process=${file%/cmdline}
        arguments=$(tr '\0' '\n' <"$file" 2>/dev/null | awk -v OFS='\t' '
            previous == "-root" { root = $0 }
            previous == "-boot" { boot = $0 }
            { previous = $0 }
            END { print root, boot }')
        say process "${process#/proc/}$TAB$(readlink "$process/exe" 2>/dev/null)$TAB$arguments"
    done
fi

if [ -x "$T/bin/$N" ]; then
    answer=$(limit "$(tool)" eval "$E" 2>&1)
    printf '%s\n' "$answer" | sed "s/^/answer$TAB/"
fi
echo slipway:end
