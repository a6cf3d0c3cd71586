import { worseOnHeldOutRows } from '@lorasmith/client/core';
import { changeText } from '../../charts/change-text.js';
import { lossesOf, rewardsOf } from '../../history/job-history.js';
import { useJobHistories } from '../../history/use-job-histories.js';

const [WIDTH, HEIGHT] = [72, 24];
const MAX_POINTS = 72;

/** The loss of a job as a small line, or its reward where answers are graded, with the first and last value: of the held-out rows where there are any. */
export function LossLine({ id }: { id: string }) {
  const history = useJobHistories([id]).value?.get(id);
  if (history === undefined) return null;
  const { curves, evaluations, lastStep } = history;
  const isGraded = lastStep?.group !== undefined;
  const text = changeText(isGraded ? rewardsOf(history) : lossesOf(history));
  if (text === '') return null;
  const isWorse = worseOnHeldOutRows(evaluations, history.publishedStep) !== null;
  return (
    <span
      class="loss-line"
      title={`${isGraded ? 'Reward' : 'Loss'} of ${evaluations.length > 0 ? 'the held-out rows' : 'the training'}`}
    >
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
        <polyline points={pointsOf((isGraded ? curves.reward : curves.loss).points().mean)} />
      </svg>
      {isGraded && 'reward '}
      {text}
      {isWorse && <span class="badge badge-warning">worse</span>}
    </span>
  );
}

/** The points of an SVG polyline, from edge to edge. */
function pointsOf(values: readonly number[]): string {
  const every = Math.max(1, Math.ceil(values.length / MAX_POINTS));
  const shown = values.filter((_, index) => index % every === 0 || index === values.length - 1);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const height = high === low ? 1 : high - low;
  return shown
    .map((value, index) => {
      const x = (index / Math.max(1, shown.length - 1)) * (WIDTH - 2) + 1;
      const y = HEIGHT - 2 - ((value - low) / height) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(' ');
}
