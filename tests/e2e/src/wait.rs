//! Waiting for states, with a deadline and a reason.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

/// Asks again until there is an answer; fails after `within` with the last reason.
///
/// # Errors
/// When there is none in time.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(reason) if Instant::now() >= deadline => {
                return Err(reason).with_context(|| format!("{what} did not happen in {within:?}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Fetches a page.
///
/// # Errors
/// When it cannot be had or is an error itself.
pub async fn get(url: &str) -> anyhow::Result<reqwest::Response> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(15))
        .build()?;
    let response = client.get(url).send().await?;
    if !response.status().is_success() {
        bail!("{url}: {} {}", response.status(), response.text().await?);
    }
    Ok(response)
}

/// Fetches a page's text.
///
/// # Errors
/// When it cannot be had or is an error itself.
pub async fn get_text(url: &str) -> anyhow::Result<String> {
    Ok(get(url).await?.text().await?)
}
