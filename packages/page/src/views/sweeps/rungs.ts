import type { Job, Sweep, SweepVariant } from '@lorasmith/contracts';

type Halved = Pick<Sweep, 'request' | 'rungs' | 'variants'>;

/** The rung that is decided next, by its step, with the variants that it decides on; null without halving, and once one of them is left. */
export function nextRung({ request, rungs, variants }: Halved): { step: number; left: number[] } | null {
  if (request.halving === undefined) return null;
  const left = rungs.at(-1)?.kept ?? variants.map(({ variant }) => variant);
  return left.length > 1 ? { step: request.halving.first_steps * 2 ** rungs.length, left } : null;
}

/** The step of the rung at which a variant waits for the others; null if it does not wait. */
export function waitsAtStep(sweep: Halved, { variant, status, step }: SweepVariant): number | null {
  const next = nextRung(sweep);
  const hasCome = next !== null && status === 'paused' && step === next.step && next.left.includes(variant);
  return hasCome ? next.step : null;
}

/** Whether resuming the job lets it train: not while it waits at a rung of its sweep, nor before that is known. @param sweep - Null without one; undefined until it is read */
export function mayResume(
  { sweep: origin, status }: Pick<Job, 'sweep' | 'status'>,
  sweep: Sweep | null | undefined,
): boolean {
  if (origin === undefined || status !== 'paused' || sweep === null) return true;
  const variant = sweep?.variants.find((one) => one.variant === origin.variant);
  return sweep !== undefined && (variant === undefined || waitsAtStep(sweep, { ...variant, status }) === null);
}

/** The decisions of the rungs on a variant, or that it waits: `went on at 10, stopped at 20`. Empty before the first. */
export function rungText(sweep: Halved, one: SweepVariant): string {
  const { rungs } = sweep;
  const last = rungs.findLast(({ kept }) => kept.includes(one.variant));
  const stopped = rungs.find((rung) => rung.stopped.includes(one.variant));
  const waits = waitsAtStep(sweep, one);
  return [
    last === undefined ? '' : `went on at ${last.step}`,
    stopped === undefined ? '' : `stopped at ${stopped.step}`,
    waits === null ? '' : `waits at ${waits}`,
  ]
    .filter((text) => text !== '')
    .join(', ');
}

/** The variants, the best first: by their rank, by the rungs that let them through, by the metric so far, by their number. */
export function bestFirst({ variants, rungs, direction }: Pick<Sweep, 'variants' | 'rungs' | 'direction'>) {
  const sign = direction === 'min' ? 1 : -1;
  const passed = ({ variant }: SweepVariant) => rungs.filter(({ kept }) => kept.includes(variant)).length;
  const last = Number.POSITIVE_INFINITY;
  const metric = (one: SweepVariant) => (one.metric === null ? last : sign * one.metric);
  const compare = (one: number, other: number) => (one === other ? 0 : one - other);
  return variants.toSorted(
    (one, other) =>
      compare(one.rank ?? last, other.rank ?? last) ||
      passed(other) - passed(one) ||
      compare(metric(one), metric(other)) ||
      one.variant - other.variant,
  );
}
