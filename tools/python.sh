# Sourced by the tools: answers --help, then sets `python` to a Python of 3.11 or newer, and `root` to the project's
# folder.
for argument; do
    case $argument in
    -h | --help)
        # The comment at the top of the tool: an answer at once, with nothing set up for it.
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    esac
done
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
python=
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$(command -v "$candidate")
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 or newer is needed and was not found on PATH (on Debian: apt-get install python3)" >&2
    exit 1
fi
