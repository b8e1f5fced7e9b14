//! Notifications.

use super::feeds::Page;
use crate::bsky::*;
use crate::cache::key::can_be_asked;
use crate::read::edges::{EdgeKind, EdgesOf};
use crate::read::kinds::{Records, SeenBy, limit};
use crate::read::plan::Plan;
use crate::read::{Call, Failure, Reads};
use crate::store::rows::{self, NotificationRow, micros_of};

/// A notification about a record that is gone is left out, and so, where only priority is asked for, is one by somebody the
/// account does not follow: a page may hold fewer than was asked for and have a cursor.
pub(super) async fn notifications(
    reads: &Reads,
    call: &Call,
    request: GetNotificationsRequest,
) -> Result<GetNotificationsResponse, Failure> {
    let page = Page::of(reads, request.limit, &request.cursor)?;
    let recipient = request.actor_did.as_str();
    if !can_be_asked(recipient) {
        return Ok(GetNotificationsResponse::default());
    }
    let most = limit(page.items);
    let rows: Vec<NotificationRow> = match &page.before {
        None => reads.database(call).rows(rows::NOTIFICATIONS, (recipient, most)).await?,
        Some(place) => {
            reads.database(call).rows(rows::NOTIFICATIONS_BEFORE, (recipient, place, most)).await?
        }
    };
    let cursor = rows.last().map(|row| row.place.clone()).unwrap_or_default();
    let authors = Plan::new(rows.iter().map(|row| row.author_did.as_deref().unwrap_or_default()));
    let subjects = Plan::new(rows.iter().map(|row| row.reason_subject.as_deref().unwrap_or_default()));
    let follows = EdgesOf { kind: EdgeKind::Follow, actor: recipient };
    let (followed, there) = futures_util::try_join!(
        reads.read(call, &follows, &authors),
        reads.read(call, &Records, &subjects),
    )?;
    let rows = rows.iter().zip(authors.slots(&followed)).zip(subjects.slots(&there));
    let kept = rows.filter(|((row, follow), subject)| {
        let about_something = row.reason_subject.as_deref().is_some_and(|uri| !uri.is_empty());
        (!about_something || subject.is_some()) && (!request.priority || follow.is_some())
    });
    let notifications = kept.map(|((row, follow), _)| Notification {
        recipient_did: recipient.to_owned(),
        uri: row.uri.clone().unwrap_or_default(),
        reason: row.reason.clone().unwrap_or_default(),
        reason_subject: row.reason_subject.clone().unwrap_or_default(),
        timestamp: micros_of(&row.place).map(|micros| prost_types::Timestamp {
            seconds: i64::try_from(micros / 1_000_000).unwrap_or_default(),
            nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap_or_default(),
        }),
        priority: follow.is_some(),
    });
    Ok(GetNotificationsResponse { notifications: notifications.collect(), cursor })
}

pub(super) async fn seen(
    reads: &Reads,
    call: &Call,
    request: GetNotificationSeenRequest,
) -> Result<GetNotificationSeenResponse, Failure> {
    let mut found = reads.read(call, &SeenBy, &Plan::new([request.actor_did.as_str()])).await?;
    let seen = found.remove(&request.actor_did).unwrap_or_default();
    let timestamp = if request.priority { seen.priority_at.or(seen.at) } else { seen.at };
    Ok(GetNotificationSeenResponse { timestamp })
}
