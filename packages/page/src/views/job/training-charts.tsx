import type { ChartLine } from '../../charts/chart-line.js';
import { LineChart } from '../../charts/line-chart.js';
import type { CurveName, JobHistory } from '../../history/job-history.js';

/** The curves of a training. */
export function TrainingCharts({ history }: { history: JobHistory }) {
  const { firstStep, evaluations } = history;
  if (firstStep === null && evaluations.length === 0) return null;
  const loss = [curveLine(history, 'loss', 'training', 1)];
  return (
    <section class="charts" aria-label="Curves">
      <h2 class="visually-hidden">Curves</h2>
      <LineChart
        title="Loss"
        lines={evaluations.length === 0 ? loss : [...loss, evaluationLine(history, 'held-out rows', 2)]}
      />
      <LineChart title="Learning rate" lines={[curveLine(history, 'learning_rate', 'learning rate', 3)]} />
      <LineChart title="Gradient norm" lines={[curveLine(history, 'grad_norm', 'before clipping', 4)]} />
      <LineChart title="Speed" lines={[curveLine(history, 'tokens_per_second', 'tokens/s', 5)]} />
    </section>
  );
}

export function curveLine({ curves }: JobHistory, name: CurveName, label: string, color: number): ChartLine {
  const { steps, mean, min, max } = curves[name].points();
  return { label, color, steps, values: mean, range: curves[name].stepsPerPoint > 1 ? { min, max } : undefined };
}

export function evaluationLine({ evaluations }: JobHistory, label: string, color: number): ChartLine {
  return {
    label,
    color,
    steps: evaluations.map(({ step }) => step),
    values: evaluations.map(({ loss }) => loss),
    hasMarks: evaluations.length <= 50,
  };
}
