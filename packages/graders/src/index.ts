export {
  type CompiledGrader,
  compileGrader,
  type GradedAnswer,
  type OutsideGrader,
  scoreReader,
} from './compile-grader.js';
export { GraderError } from './formula.js';
export { answerScores } from './similarity.js';
