import type { Projection, ProjectionSlot } from '@lorasmith/models';

/**
 * Runs a model with other projections in its slots, and puts back those that were there.
 * @param work - Must be synchronous.
 */
export function withProjections<Result>(
  slots: readonly ProjectionSlot[],
  projectionOf: (slot: ProjectionSlot) => Projection,
  work: () => Result,
): Result {
  const before = slots.map(({ projection }) => projection);
  try {
    for (const slot of slots) slot.projection = projectionOf(slot);
    return work();
  } finally {
    for (const [index, slot] of slots.entries()) slot.projection = before[index]!;
  }
}
