//! Every environment variable that `chatctl` reads or sets, and nowhere else.

/// Same as `--stage`.
pub(crate) const STAGE: &str = "CHATCTL_STAGE";

/// Same as `--settings`.
pub(crate) const SETTINGS: &str = "CHATCTL_SETTINGS";

/// Same as `--handlers`: built handlers, for instance those that another CI job built.
pub(crate) const HANDLERS: &str = "CHATCTL_HANDLERS";

/// Same as `--port`: the port of the local cloud.
pub(crate) const PORT: &str = "CHATCTL_PORT";

/// Same as `--web-port`: the port of the web client.
pub(crate) const WEB_PORT: &str = "CHATCTL_WEB_PORT";

/// Same as `--token` of `chat`, out of sight of whoever lists processes.
pub(crate) const TOKEN: &str = "CHATCTL_TOKEN";

/// The name one has logged in with.
pub(crate) const LOGIN: &str = "USER";

/// Where the local cloud's data, the signing keys and the log of the background process live. Default: `.chatctl/`
/// beside the project.
pub(crate) const STATE_DIR: &str = "CHATCTL_STATE_DIR";

/// Cargo itself, as `cargo run` sets it. Default: `cargo` from the search path.
pub(crate) const CARGO: &str = "CARGO";

/// Where cargo puts what it builds. Default: `target/` beside the sources.
pub(crate) const CARGO_TARGET_DIR: &str = "CARGO_TARGET_DIR";

/// What GitHub Actions says of the run: <https://docs.github.com/actions/reference/variables-reference>.
pub(crate) const GITHUB_SERVER: &str = "GITHUB_SERVER_URL";
pub(crate) const GITHUB_REPOSITORY: &str = "GITHUB_REPOSITORY";
pub(crate) const GITHUB_RUN: &str = "GITHUB_RUN_ID";

/// The address of the run as GitLab, Buildkite, CircleCI and Jenkins say it.
pub(crate) const CI_RUNS: [&str; 4] = ["CI_JOB_URL", "BUILDKITE_BUILD_URL", "CIRCLE_BUILD_URL", "BUILD_URL"];

/// The zig that cargo-zigbuild takes. Default: `zig` from the search path, or Python's package `ziglang`.
pub(crate) const ZIG: &str = "CARGO_ZIGBUILD_ZIG_PATH";

/// Set by CI systems: what is written to this machine is lost with it.
pub(crate) const CI: &str = "CI";

/// Set to anything: no colours (<https://no-color.org>).
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// Set to anything but `0`: colours even without a terminal.
pub(crate) const FORCE_COLOR: &str = "CLICOLOR_FORCE";

/// `dumb`: a terminal that cannot move its cursor gets plain lines.
pub(crate) const TERM: &str = "TERM";

/// What tells a desktop from a bare machine on Linux: the browser is only opened where one can show.
pub(crate) const DISPLAYS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// Variables that `cargo run` and build scripts leave behind. A nested cargo must not see them: crates such as ring
/// rebuild when they change.
pub(crate) const CARGO_LEFTOVERS: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// The value of a variable that is set to something.
pub(crate) fn read(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
