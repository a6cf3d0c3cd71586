import { shareText } from '@lorasmith/client/core';
import type { ComparisonResult } from '@lorasmith/contracts';

const WIDTH = 600;
const MIDDLE = 20;
const x = (share: number) => 10 + share * (WIDTH - 20);

/** The win rate of a with its interval, on a line from 0 to 100 %; one half is marked. The same as a sentence for screen readers. */
export function IntervalLine({ result: { win_rate: rate, interval } }: { result: ComparisonResult }) {
  if (rate === null) return null;
  const [low, high] = interval ?? [];
  const bounds =
    low === undefined || high === undefined ? '' : `, between ${shareText(low)} and ${shareText(high)} at 95 %`;
  return (
    <svg class="interval-line" viewBox={`0 0 ${WIDTH} 60`} role="img" aria-label={`a wins ${shareText(rate)}${bounds}`}>
      <line class="interval-axis" x1={x(0)} x2={x(1)} y1={MIDDLE} y2={MIDDLE} />
      <line class="interval-half" x1={x(0.5)} x2={x(0.5)} y1={4} y2={36} />
      {low !== undefined && high !== undefined && (
        <line class="interval-range" x1={x(low)} x2={x(high)} y1={MIDDLE} y2={MIDDLE} />
      )}
      <circle class="interval-rate" cx={x(rate)} cy={MIDDLE} r={6} />
      <text x={x(0)} y={54}>
        b wins
      </text>
      <text x={x(0.5)} y={54} text-anchor="middle">
        50 %
      </text>
      <text x={x(1)} y={54} text-anchor="end">
        a wins
      </text>
    </svg>
  );
}
