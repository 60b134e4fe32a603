//! stub replaced by merge
/// x
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// x
    #[error("token expired")]
    Expired,
}
impl AuthError {
    /// x
    pub fn is_client_fault(&self) -> bool {
        true
    }
}
