//! `$disconnect`.

fn main() -> std::process::ExitCode {
    chat_functions::runtime::disconnect()
}
