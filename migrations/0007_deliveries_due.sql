-- What is due is looked for webhook by webhook, so that one with a long line hides no other.
create index webhook_deliveries_due_each on read_models.webhook_deliveries (webhook_id, next_attempt_at)
  where status in ('pending', 'delivering');
drop index read_models.webhook_deliveries_due;
