import { durationText } from '@lorasmith/client/core';
import { numberText } from './number-text.js';

/** The quantities over which a chart can be drawn. */
export const AXES = ['step', 'tokens', 'time'] as const;
export type AxisName = (typeof AXES)[number];

/** The horizontal axis of a chart. */
export interface ChartAxis {
  name: AxisName;
  /** The position of a step on it. */
  at: (step: number) => number;
}

export const STEP_AXIS: ChartAxis = { name: 'step', at: (step) => step };

/** A position on an axis, such as `1.2M` tokens. */
export function positionText(name: AxisName, position: number): string {
  if (name === 'time') return durationText(position);
  if (name === 'step') return position.toLocaleString('en-US');
  if (position >= 1e6) return `${Number((position / 1e6).toPrecision(3))}M`;
  return position >= 1e4 ? `${Number((position / 1e3).toPrecision(3))}k` : numberText(position);
}

/**
 * A function from steps to positions that are known at some steps, with straight lines between them.
 * @param steps ascending
 */
export function interpolation(steps: readonly number[], positions: readonly number[]): (step: number) => number {
  return (step) => {
    let low = -1;
    let high = steps.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle]! <= step) low = middle;
      else high = middle;
    }
    const [fromStep, from] = low < 0 ? [0, 0] : [steps[low]!, positions[low]!];
    if (low === steps.length - 1) return from;
    const share = (step - fromStep) / (steps[low + 1]! - fromStep);
    return from + share * (positions[low + 1]! - from);
  };
}
