//! The REQUEST authorizer and `$connect`.

fn main() -> std::process::ExitCode {
    chat_functions::runtime::connect()
}
