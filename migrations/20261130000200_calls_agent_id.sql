-- Who has a call. No default and no constraint: nothing is rewritten or read, and calls go on.

alter table calls add column agent_id text;

comment on column calls.agent_id is
    'The agent who has the call, as MatchCaller said last, or the click that it took; at most 128 characters. Null: nobody said.';

update schema_compatibility set oldest_program = '0.1.0';
