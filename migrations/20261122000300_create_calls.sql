-- What the router told us of one call, the answer given, and the contact it is attributed to. Kept 90 days.
-- No foreign keys here: a contact that a call names becomes a tombstone, and the call path pays for no check.
create table calls (
    account_id uuid not null,
    call_id text not null,
    e164 bigint,
    -- Only where there is no key: tells a reused call id apart.
    raw text,
    direction text not null,
    -- Null: known from a click only, not asked yet.
    outcome text,
    contact_id uuid,
    tier text,
    -- The agent's (or a click's) choice.
    selection_id uuid,
    selected_by text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint calls_pkey primary key (account_id, call_id),
    constraint calls_call_id_check check (char_length(call_id) between 1 and 128),
    constraint calls_direction_check check (direction in ('INBOUND', 'OUTBOUND')),
    constraint calls_outcome_check check (outcome in
        ('MATCHED', 'AMBIGUOUS', 'CREATED', 'NOT_FOUND', 'NOT_KNOWN_YET', 'WITHHELD', 'UNPARSEABLE'))
);

-- For forgetting old calls. Not by account first: on a table without statistics the planner took such an index for a call's id.
create index calls_created_idx on calls (created_at);

-- An agent has clicked a number and the call has not come yet. Good for five minutes.
create table expected_calls (
    account_id uuid not null,
    expected_call_id uuid not null,
    e164 bigint not null,
    contact_id uuid not null,
    -- Empty: the adapter did not say.
    agent_id text not null,
    created_at timestamptz not null,
    consumed_at timestamptz,
    constraint expected_calls_pkey primary key (account_id, expected_call_id)
);

create index expected_calls_number_idx on expected_calls (account_id, e164, created_at) where consumed_at is null;
create index expected_calls_created_idx on expected_calls (created_at);
