//! The store on DynamoDB: one table, no Scan, each method one call where it is not said otherwise.

mod failure;
mod items;
mod known;
mod room;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, DeleteRequest, PutRequest, ReturnValue, ReturnValuesOnConditionCheckFailure, WriteRequest,
};
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use failure::failure;
use futures_util::try_join;
use items::{Item, Key, number, string, strings};
use known::Known;

use crate::ids::{ConnectionId, DeviceId, Pair, Room, RoomName, SEQ_MAX, UserId};
use crate::ports::{
    Appended, Connection, Noted, Page, Read, Recent, Recipient, Removal, Store, StoreError, StoreResult,
    Stored,
};
use crate::protocol::History;
use crate::settings::Aws;
use crate::tls::{TlsError, sdk_context};

/// Items in one BatchWriteItem, at most.
const BATCH_ITEMS: usize = 25;
/// Rounds for what a BatchWriteItem left undone, the first pause, and its doubling.
const BATCH_ROUNDS: u32 = 6;
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// The table.
#[derive(Debug)]
pub struct Table {
    client: Client,
    name: String,
    known: Known,
}

impl Table {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// If TLS is needed and cannot be set up.
    pub fn new(aws: &Aws, name: String) -> Result<Self, TlsError> {
        let plain = aws.dynamodb_endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
        let http_client = if plain {
            HttpBuilder::new().build_http()
        } else {
            let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
            HttpBuilder::new().tls_provider(ring).tls_context(sdk_context(aws.roots)?).build_https()
        };
        let credentials = Credentials::new(
            aws.access_key_id.clone(),
            aws.secret_access_key.clone(),
            aws.session_token.clone(),
            None,
            "environment",
        );
        // API Gateway gives up after 29 s; whoever waits for an answer does so much earlier.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(2))
            .operation_timeout(Duration::from_secs(8))
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(4)
            .with_initial_backoff(Duration::from_millis(50))
            .with_max_backoff(Duration::from_secs(1));
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(aws.region.clone()))
            .credentials_provider(credentials)
            .http_client(http_client)
            .timeout_config(timeouts)
            .retry_config(retries);
        let config = match &aws.dynamodb_endpoint {
            Some(url) => config.endpoint_url(url),
            None => config,
        };
        Ok(Self { client: Client::from_conf(config.build()), name, known: Known::default() })
    }

    /// A Query of one partition's items whose sort key starts with `prefix`.
    fn query(&self, partition: String, prefix: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression("PK = :p AND begins_with(SK, :s)")
            .expression_attribute_values(":p", AttributeValue::S(partition))
            .expression_attribute_values(":s", string(prefix))
    }

    /// A Query of one partition's items whose sort key is in a range, both ends included.
    fn query_between(&self, partition: String, from: String, to: String) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression("PK = :p AND SK BETWEEN :from AND :to")
            .expression_attribute_values(":p", AttributeValue::S(partition))
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
    }

    /// All items of a query, or `most` of them, over as many pages as it takes. Each page is read before the next one
    /// comes: as items it is many times as large as what is read from it.
    async fn all<T>(
        &self,
        query: QueryFluentBuilder,
        most: Option<usize>,
        read: impl Fn(&Item) -> StoreResult<T>,
    ) -> StoreResult<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        let mut from = None;
        loop {
            let missing = most.map(|most| most.saturating_sub(all.len()));
            let limit = missing.map(|missing| i32::try_from(missing).unwrap_or(i32::MAX));
            let page = query.clone().set_limit(limit).set_exclusive_start_key(from);
            let page = page.send().await.map_err(|why| failure("Query", &why))?;
            for item in page.items() {
                all.push(read(item)?);
            }
            from = page.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() || most.is_some_and(|most| all.len() >= most) {
                return Ok(all);
            }
        }
    }

    /// BatchWriteItem, until nothing is left undone.
    async fn batch(&self, requests: Vec<WriteRequest>) -> StoreResult<()> {
        for chunk in requests.chunks(BATCH_ITEMS) {
            let mut left = HashMap::from([(self.name.clone(), chunk.to_vec())]);
            let mut pause = BATCH_PAUSE;
            for round in 0.. {
                let call = self.client.batch_write_item().set_request_items(Some(left));
                let answer = call.send().await.map_err(|why| failure("BatchWriteItem", &why))?;
                left = answer.unprocessed_items.unwrap_or_default();
                if left.values().all(Vec::is_empty) {
                    break;
                }
                if round >= BATCH_ROUNDS {
                    let why = "BatchWriteItem left items unprocessed".to_owned();
                    return Err(StoreError::Unavailable(why));
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        Ok(())
    }
}

impl Store for Table {
    async fn register(&self, connection: &Connection) -> StoreResult<()> {
        let item = items::connection(connection);
        let call = self.client.put_item().table_name(&self.name).set_item(Some(item));
        call.send().await.map_err(|why| failure("PutItem", &why))?;
        Ok(())
    }

    async fn forget(&self, user: &UserId, conn: &ConnectionId) -> StoreResult<Vec<RoomName>> {
        let key = Key::connection(user, conn);
        let call = self.client.delete_item().table_name(&self.name).set_key(Some(key.into()));
        let call = call.return_values(ReturnValue::AllOld);
        let old = call.send().await.map_err(|why| failure("DeleteItem", &why))?;
        Ok(old.attributes.as_ref().map(items::rooms_of).unwrap_or_default())
    }

    async fn note(
        &self,
        user: &UserId,
        conn: &ConnectionId,
        rooms: &[RoomName],
        device: Option<&DeviceId>,
        most: usize,
    ) -> StoreResult<Noted> {
        let Some(left) = most.checked_sub(rooms.len()) else { return Ok(Noted::TooMany) };
        let key = Key::connection(user, conn);
        let mut call = self.client.update_item().table_name(&self.name).set_key(Some(key.into()));
        let mut update = String::new();
        let mut condition = "attribute_exists(PK)".to_owned();
        if let Some(device) = device {
            update += "SET #device = :device ";
            call = call.expression_attribute_names("#device", "device");
            call = call.expression_attribute_values(":device", string(device.as_str()));
        }
        if !rooms.is_empty() {
            update += "ADD #rooms :rooms";
            condition += " AND (attribute_not_exists(#rooms) OR size(#rooms) <= :left OR (";
            for (position, room) in rooms.iter().enumerate() {
                let name = format!(":r{position}");
                if position > 0 {
                    condition += " AND ";
                }
                condition += &format!("contains(#rooms, {name})");
                call = call.expression_attribute_values(name, string(room.as_str()));
            }
            condition += "))";
            call = call
                .expression_attribute_names("#rooms", "rooms")
                .expression_attribute_values(":rooms", strings(rooms.iter().map(RoomName::as_str)))
                .expression_attribute_values(":left", number(left as u64));
        }
        let outcome = call
            .update_expression(update)
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(Noted::Done),
            Err(why) => match why.as_service_error() {
                Some(error) if error.is_conditional_check_failed_exception() => {
                    use aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException;
                    // The item comes with the refusal: if there is one, it was the limit.
                    let exists = match error {
                        ConditionalCheckFailedException(failed) => {
                            failed.item().is_some_and(|item| !item.is_empty())
                        }
                        _ => false,
                    };
                    Ok(if exists { Noted::TooMany } else { Noted::NoConnection })
                }
                _ => Err(failure("UpdateItem", &why)),
            },
        }
    }

    async fn unnote(&self, user: &UserId, conn: &ConnectionId, room: &RoomName) -> StoreResult<()> {
        let key = Key::connection(user, conn);
        let outcome = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key.into()))
            .update_expression("DELETE #rooms :rooms")
            .condition_expression("attribute_exists(PK)")
            .expression_attribute_names("#rooms", "rooms")
            .expression_attribute_values(":rooms", strings([room.as_str()]))
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            Err(why) => match why.as_service_error() {
                Some(error) if error.is_conditional_check_failed_exception() => Ok(()),
                _ => Err(failure("UpdateItem", &why)),
            },
        }
    }

    async fn banned(&self, room: &RoomName, user: &UserId, now_s: u64) -> StoreResult<bool> {
        let call = self.client.get_item().table_name(&self.name);
        let call = call.set_key(Some(Key::grant(room, user).into()));
        let found = call.send().await.map_err(|why| failure("GetItem", &why))?;
        Ok(found.item.is_some_and(|item| items::is_ban(&item, now_s)))
    }

    async fn subscribe(&self, room: &RoomName, who: &Recipient) -> StoreResult<()> {
        let item = items::subscription(room, who);
        let call = self.client.put_item().table_name(&self.name).set_item(Some(item));
        call.send().await.map_err(|why| failure("PutItem", &why))?;
        Ok(())
    }

    async fn unsubscribe(&self, room: &RoomName, conn: &ConnectionId) -> StoreResult<bool> {
        let key = Key::subscription(room, conn);
        let call = self.client.delete_item().table_name(&self.name).set_key(Some(key.into()));
        let call = call.return_values(ReturnValue::AllOld);
        let old = call.send().await.map_err(|why| failure("DeleteItem", &why))?;
        Ok(old.attributes.is_some_and(|item| !item.is_empty()))
    }

    async fn subscription(&self, room: &RoomName, conn: &ConnectionId) -> StoreResult<Option<Recipient>> {
        let call = self.client.get_item().table_name(&self.name).consistent_read(true);
        let call = call.set_key(Some(Key::subscription(room, conn).into()));
        let found = call.send().await.map_err(|why| failure("GetItem", &why))?;
        found.item.as_ref().map(items::subscriber).transpose()
    }

    async fn subscribers(
        &self,
        room: &RoomName,
        read: Read,
        most: Option<usize>,
    ) -> StoreResult<Vec<Recipient>> {
        let query = self.query(items::room_partition(room), items::SUBSCRIPTION);
        self.all(query.consistent_read(read == Read::Strong), most, items::subscriber).await
    }

    async fn connections(&self, user: &UserId) -> StoreResult<Vec<Recipient>> {
        let query = self.query(items::user_partition(user), items::CONNECTION);
        self.all(query, None, |item| items::connected(user, item)).await
    }

    async fn tail(&self, room: &Room, most: usize, read: Read) -> StoreResult<Vec<Stored>> {
        let query = self.query(items::room_partition(room), items::MESSAGE).scan_index_forward(false);
        self.all(query.consistent_read(read == Read::Strong), Some(most), items::stored).await
    }

    async fn recent(&self, room: &Room, read: Read) -> StoreResult<Vec<Recent>> {
        self.tail_of(room, read).await
    }

    async fn room(&self, name: &RoomName) -> StoreResult<(Vec<Recipient>, Vec<Recent>)> {
        let room = Room::Named(name.clone());
        let news = match self.known.of(&room) {
            Some((newest, Some(size))) if room::fits(size) => self.news(name, newest, size).await?,
            _ => Err(Read::Eventual),
        };
        let (subscribers, tail) = match news {
            Ok(found) => found,
            Err(whole) => {
                let subscribers = self.subscribers(name, Read::Eventual, None);
                try_join!(subscribers, self.whole_tail(&room, whole))?
            }
        };
        self.known.count(&room, subscribers.len());
        Ok((subscribers, tail))
    }

    async fn messages(&self, room: &Room, range: History) -> StoreResult<Page> {
        let from = range.after.map_or(1, |after| after + 1);
        let to = range.before.map_or(SEQ_MAX, |before| before.get() - 1);
        if from > to || range.limit == 0 {
            return Ok(Page::default());
        }
        let (from, to) = (items::message_sort(from), items::message_sort(to));
        let query = self.query_between(items::room_partition(room), from, to);
        let query = query.scan_index_forward(range.after.is_some());
        // One more than wanted tells whether there is more.
        let mut messages = self.all(query, Some(range.limit + 1), items::stored).await?;
        let more = messages.len() > range.limit;
        messages.truncate(range.limit);
        Ok(Page { messages, more })
    }

    async fn append(&self, room: &Room, message: &Stored) -> StoreResult<Appended> {
        let call = self.client.put_item().table_name(&self.name);
        let call = call.set_item(Some(items::message(room, message)));
        let outcome = call.condition_expression("attribute_not_exists(PK)").send().await;
        match outcome {
            Ok(_) => {
                self.known.append(room, message);
                Ok(Appended::Stored)
            }
            Err(why) => match why.as_service_error() {
                Some(error) if error.is_conditional_check_failed_exception() => Ok(Appended::Taken),
                _ => Err(failure("PutItem", &why)),
            },
        }
    }

    async fn remove(&self, removals: &[Removal]) -> StoreResult<()> {
        let request = |removal: &Removal| {
            let key = match removal {
                Removal::Connection { user, conn } => Key::connection(user, conn),
                Removal::Subscription { room, conn } => Key::subscription(room, conn),
            };
            let delete =
                DeleteRequest::builder().set_key(Some(key.into())).build().map_err(items::unbuilt)?;
            Ok(WriteRequest::builder().delete_request(delete).build())
        };
        self.batch(removals.iter().map(request).collect::<StoreResult<_>>()?).await
    }

    async fn introduce(&self, pair: &Pair) -> StoreResult<()> {
        let request = |user: &UserId| {
            let put = PutRequest::builder().set_item(Some(items::membership(user, pair)));
            Ok(WriteRequest::builder().put_request(put.build().map_err(items::unbuilt)?).build())
        };
        self.batch(pair.both().into_iter().map(request).collect::<StoreResult<_>>()?).await
    }

    async fn direct_rooms(&self, user: &UserId, most: usize) -> StoreResult<Vec<Pair>> {
        let query = self.query(items::user_partition(user), items::DIRECT_MEMBERSHIP);
        let found = self.all(query, Some(most), |item| Ok(items::direct_of(item))).await?;
        Ok(found.into_iter().flatten().collect())
    }
}
