import { type Static, Type } from 'typebox';
import { ENDED_STATUSES } from './job.js';
import { AdapterId, closed, JobId, Nullable, SweepId } from './schema-parts.js';
import { SweepRung } from './sweep.js';

/** The data of each kind of event of a sweep. */
export const SWEEP_EVENT_DATA = {
  'sweep-queued': Type.Object({}, closed),
  'variant-ended': Type.Object(
    {
      variant: Type.Integer({ minimum: 1 }),
      job: JobId,
      status: Type.Enum([...ENDED_STATUSES]),
      metric: Nullable(Type.Number(), { description: 'Null unless it succeeded, and where it is not a number.' }),
    },
    closed,
  ),
  'rung-decided': Type.Object({ rung: SweepRung }, closed),
  'sweep-paused': Type.Object({}, closed),
  'sweep-resumed': Type.Object({}, closed),
  'sweep-succeeded': Type.Object({ best: JobId, adapter: Nullable(AdapterId), metric: Type.Number() }, closed),
  'sweep-failed': Type.Object({}, closed),
  'sweep-cancelled': Type.Object({}, closed),
} as const;

export const SWEEP_EVENT_TYPES = Object.keys(SWEEP_EVENT_DATA) as SweepEventType[];
export type SweepEventType = keyof typeof SWEEP_EVENT_DATA;
/** The last event of a sweep is one of these. */
export const LAST_SWEEP_EVENT_TYPES: readonly SweepEventType[] = ['sweep-succeeded', 'sweep-failed', 'sweep-cancelled'];

/** An event that is not in the stream yet. */
export type NewSweepEvent = {
  [Kind in SweepEventType]: { type: Kind; data: Static<(typeof SWEEP_EVENT_DATA)[Kind]> };
}[SweepEventType];

const eventOf = <Kind extends SweepEventType>(type: Kind) =>
  Type.Object(
    {
      id: Type.String({ description: 'Position in the stream. Send it as Last-Event-ID to continue after it.' }),
      sweep: SweepId,
      created_at: Type.String(),
      type: Type.Literal(type),
      data: SWEEP_EVENT_DATA[type],
    },
    closed,
  );

export const SweepEvent = Type.Union(
  [
    eventOf('sweep-queued'),
    eventOf('variant-ended'),
    eventOf('rung-decided'),
    eventOf('sweep-paused'),
    eventOf('sweep-resumed'),
    eventOf('sweep-succeeded'),
    eventOf('sweep-failed'),
    eventOf('sweep-cancelled'),
  ],
  { $id: 'SweepEvent' },
);
/** The same as `Static<typeof SweepEvent>`, discriminated by `type`. */
export type SweepEvent = NewSweepEvent & { id: string; sweep: SweepId; created_at: string };

export const SweepEventList = Type.Object(
  { data: Type.Array(SweepEvent), has_more: Type.Boolean(), next: Nullable(Type.String()) },
  { $id: 'SweepEventList', ...closed },
);
