# shellcheck shell=bash
# Sourced by quickstart and check: installs the Debian packages that are missing.

# need_packages NAME...: says what it does; fails with the command to run when it may not install.
need_packages() {
	local missing=() package sudo=()

	if ! command -v dpkg-query >/dev/null; then
		echo "This is no Debian system. What is needed has other names here: $*"
		return
	fi
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" -eq 0 ] || sudo=(sudo)
	echo "Installing ${missing[*]}${sudo:+ (with sudo)}"
	if ! install_packages "${missing[@]}"; then
		echo "These packages are missing and could not be installed. Please run, as root:" >&2
		echo "    apt-get update && apt-get install ${missing[*]}" >&2
		return 1
	fi
}

# The lists of a fresh machine may be empty or old: refreshed when a first try fails.
install_packages() {
	local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)

	[ ${#sudo[@]} -eq 0 ] || command -v sudo >/dev/null || return 1
	"${apt[@]}" install --no-install-recommends "$@" </dev/null >/dev/null 2>&1 && return
	"${apt[@]}" update </dev/null >/dev/null &&
		"${apt[@]}" install --no-install-recommends "$@" </dev/null >/dev/null
}
