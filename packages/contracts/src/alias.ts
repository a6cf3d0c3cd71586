import { type Static, Type } from 'typebox';
import { AdapterReference, AliasGuard, AliasName } from './alias-name.js';
import { OutsideTarget } from './delivery.js';
import { AdapterId, closed, ID_END, KeyId, Label, ModelName, Nullable, Owner } from './schema-parts.js';

const MAX_ALIASES = 200;
const MAX_HISTORY = 50;
const MAX_REASON_CHARACTERS = 200;
const MAX_TARGETS = 8;
/** The most rows of the dataset of a guard: their losses are computed while the request waits. */
export const MAX_GUARD_ROWS = 1_000;
/** The most names of an owner. */
export const MAX_ALIASES_OF_OWNER = MAX_ALIASES;
/** The moves of a name that are kept. */
export const MAX_ALIAS_MOVES = MAX_HISTORY;
/** Limits, for docs/limits.md. */
export const aliasLimits = {
  names: { value: MAX_ALIASES, unit: 'names', beyond: '429 `quota_exceeded`' },
  history: { value: MAX_HISTORY, unit: 'moves', beyond: 'the oldest are dropped' },
  guardRows: { value: MAX_GUARD_ROWS, unit: 'rows', beyond: '400 `invalid_request`' },
  reason: { value: MAX_REASON_CHARACTERS, unit: 'characters', beyond: '400 `invalid_request`' },
  deliveries: { value: MAX_TARGETS, unit: 'deliveries', beyond: '400 `invalid_request`' },
};

const Version = Type.Integer({ minimum: 1, description: 'Counts the moves of the name, from 1.' });
const Reason = Label(MAX_REASON_CHARACTERS, 'Why it was moved, in your own words.');

/** A guard that allowed a move. */
const PassedGuard = Type.Object(
  {
    ...AliasGuard.properties,
    before: Nullable(Type.Number(), { description: 'The loss of the adapter before; null if there was none.' }),
    after: Type.Number({ description: 'The loss of the adapter of this move.' }),
  },
  { $id: 'PassedGuard', ...closed },
);

/** A move of a name to an adapter. */
export const AliasMove = Type.Object(
  {
    version: Version,
    adapter: AdapterId,
    base_model: ModelName,
    moved_at: Type.String(),
    moved_by: Nullable(KeyId, { description: 'The API key that moved it; null without keys.' }),
    reason: Nullable(Reason),
    rolled_back_to: Nullable(Version, { description: 'Of a roll back: the version whose adapter it has again.' }),
    guard: Nullable(PassedGuard, {
      description: 'The condition of the move, and what was computed; null if it had none.',
    }),
  },
  { $id: 'AliasMove', ...closed },
);
export type AliasMove = Static<typeof AliasMove>;

/** A name, and the adapter that it points to. */
export const AliasSummary = Type.Object(
  {
    name: AliasName,
    object: Type.Literal('alias'),
    owner: Owner,
    adapter: AdapterId,
    base_model: ModelName,
    version: Version,
    moved_at: Type.String(),
    moved_by: AliasMove.properties.moved_by,
  },
  { $id: 'AliasSummary', ...closed },
);
export type AliasSummary = Static<typeof AliasSummary>;

/** The places that follow a name. */
const FollowingTargets = Type.Array(OutsideTarget, {
  maxItems: MAX_TARGETS,
  description: 'Each time that the name moves, its adapter is delivered to all of them.',
});

/** Body of `PUT /aliases/:name/deliveries`. */
export const AliasDeliveriesRequest = Type.Object(
  { deliver: FollowingTargets },
  {
    $id: 'AliasDeliveriesRequest',
    ...closed,
    examples: [{ deliver: [{ kind: 'folder', name: 'support-bot' }] }],
  },
);
export type AliasDeliveriesRequest = Static<typeof AliasDeliveriesRequest>;

/** A name with its moves. */
export const Alias = Type.Object(
  {
    ...AliasSummary.properties,
    deliver: FollowingTargets,
    history: Type.Array(AliasMove, { description: 'The last 50 moves, the newest first, which is the present one.' }),
  },
  { $id: 'Alias', ...closed },
);
export type Alias = Static<typeof Alias>;

/** Answer of `GET /aliases`. */
export const AliasList = Type.Object(
  { data: Type.Array(AliasSummary), has_more: Type.Literal(false), next: Type.Null() },
  { $id: 'AliasList', ...closed },
);

/** The query of all calls about names. */
export const AliasQuery = Type.Object(
  {
    owner: Type.Optional(
      Type.String({
        pattern: `^(?:key${ID_END}|none)$`,
        description:
          'Whose names are meant: the id of a key, or `none` for those without an owner. Only a key that sees everything may name another. ' +
          'Default: those of the caller.',
        examples: ['key_0123456789abcdef01234567'],
      }),
    ),
  },
  closed,
);
export type AliasQuery = Static<typeof AliasQuery>;

const ifVersion = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    description: 'Move it only if this is its version; 0: only if there is no such name. Otherwise 409 `conflict`.',
  }),
);

/** Body of `PUT /aliases/:name`. */
export const MoveAliasRequest = Type.Object(
  {
    adapter: AdapterReference,
    if_version: ifVersion,
    reason: Type.Optional(Reason),
    guard: Type.Optional(
      Nullable(AliasGuard, {
        description: 'Move it only if the new adapter is not worse. Otherwise 409 `guard_failed`.',
      }),
    ),
  },
  { $id: 'MoveAliasRequest', ...closed, examples: [{ adapter: 'ad_0123456789abcdef01234567', reason: 'nightly' }] },
);
export type MoveAliasRequest = Static<typeof MoveAliasRequest>;

/** Body of `POST /aliases/:name/rollback`. */
export const RollBackAliasRequest = Type.Object(
  {
    version: Type.Optional({
      ...Version,
      maximum: Number.MAX_SAFE_INTEGER,
      description: 'The version whose adapter it gets again. Default: the one before the present adapter.',
    }),
    if_version: ifVersion,
    reason: Type.Optional(Reason),
  },
  { $id: 'RollBackAliasRequest', ...closed },
);
export type RollBackAliasRequest = Static<typeof RollBackAliasRequest>;
