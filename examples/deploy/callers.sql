-- The roles that invoked the alias `live` on one day, from an event data store of CloudTrail Lake.
SELECT userIdentity.sessionContext.sessionIssuer.arn, count(*), min(eventTime), max(eventTime)
FROM EVENT_DATA_STORE_ID
WHERE eventName = 'Invoke' AND element_at(requestParameters, 'qualifier') = 'live'
    AND eventTime BETWEEN timestamp '2026-04-05 00:00:00' AND timestamp '2026-04-06 00:00:00'
GROUP BY 1;
