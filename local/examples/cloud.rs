//! Starts a cloud and prints its endpoint: `cargo run -p chat-local --example cloud -- [port] [data directory]`.

use std::error::Error;

use chat_local::{Cloud, CloudConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = CloudConfig::in_memory();
    if let Some(port) = arguments.next() {
        config.listen.set_port(port.parse()?);
    }
    config.data = arguments.next().map(Into::into);
    config.settings.allow_fault_requests = true;
    let cloud = Cloud::start(config).await?;
    println!("{}", cloud.endpoint());
    tokio::signal::ctrl_c().await?;
    cloud.shutdown().await;
    Ok(())
}
