//! `$default`: every frame but the gateway's own `ping`.

fn main() -> std::process::ExitCode {
    chat_functions::runtime::on_message()
}
