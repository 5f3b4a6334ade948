from types import SimpleNamespace

import pytest
import torch

from sizemix.errors import UserError
from sizemix.models.backbone import build_backbone
from sizemix.runs.folder import RunFolder
from sizemix.training import evaluating
from sizemix.training.assembly import assemble, idle_trainer
from sizemix.training.compilation import check_cuda_graphs, compile_for_sizes

_QUICK = (
    *(
        "data.train_images=200",
        "recipe.base_batch_size=20",
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
    ),
    *("sizes.image_sizes=[8,12]", "sizes.shares=[0.5,0.5]", "sizes.base_size=12", "evaluation.eval_sizes=[8]"),
)


def trainer_on(device, *, micro_batches=1):
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, accumulate_grad_batches=micro_batches)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # from torch's compiler itself
def test_cuda_graphs_are_refused_on_a_cpu(compose, tmp_path):
    config = compose(*_QUICK, "trainer.accelerator=cpu", "model.compile=reduce-overhead")
    with pytest.raises(UserError, match=r"expected a CUDA device for reduce-overhead, got cpu; use true"):
        assemble(config, RunFolder(tmp_path))


def test_cuda_graphs_are_refused_with_micro_batches_whose_gradients_would_be_overwritten():
    with pytest.raises(UserError, match=r"accumulate_grad_batches=1 for reduce-overhead.*got 2"):
        check_cuda_graphs(trainer_on("cuda", micro_batches=2))
    check_cuda_graphs(trainer_on("cuda"))


def test_a_network_that_trained_with_cuda_graphs_is_evaluated_where_there_are_none(compose):
    config = compose("trainer.accelerator=cpu", "model.compile=reduce-overhead")
    assert idle_trainer(config).strategy.root_device.type == "cpu"


def test_the_final_evaluation_runs_uncompiled(compose, monkeypatch):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    net = build_backbone("resnet20_cifar", num_classes=2).eval()
    net.compile(backend=backend)
    trainer = SimpleNamespace(**vars(trainer_on("cpu")), precision_plugin=SimpleNamespace(forward_context=None))
    run = SimpleNamespace(model=SimpleNamespace(evaluated=net), trainer=trainer, datamodule=None)
    monkeypatch.setattr(evaluating, "evaluate", lambda net, *_, **__: net(torch.zeros(1, 3, 8, 8)))
    evaluating.evaluate_run(run, compose("model.compile=true"))
    assert not compiled
    net(torch.zeros(1, 3, 8, 8))
    assert compiled, "or nothing would have been"


@pytest.mark.parametrize(("cuda_graphs", "mode"), [(False, None), (True, "reduce-overhead")])
def test_every_size_gets_a_graph_of_its_own_and_one_too_many_is_an_error(monkeypatch, cuda_graphs, mode):
    import torch._dynamo

    asked = {}
    net = torch.nn.Linear(2, 2)
    monkeypatch.setattr(net, "compile", lambda **options: asked.update(options))
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=False):
        compile_for_sizes(net, (8, 12, 16), cuda_graphs=cuda_graphs)
        assert torch._dynamo.config.fail_on_recompile_limit_hit
        assert torch._dynamo.config.recompile_limit >= 3 * 2, "train and eval"
    assert asked == {"dynamic": False, "mode": mode}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # from torch's compiler itself
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_a_gpu_cuda_graphs_train_as_the_plain_network_does(compose, tmp_path, precision):
    import torch._dynamo

    def trained(compiled):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        options = (
            "trainer=gpu",
            f"trainer.precision={precision}",
            "trainer.log_every_n_steps=1",
            "recipe.optimizer.lr=0.01",
        )
        folder = RunFolder(tmp_path / str(compiled))
        run = assemble(compose(*_QUICK, *options, f"model.compile={compiled}"), folder)
        run.trainer.fit(run.model, datamodule=run.datamodule)
        skipped = torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
        return torch.cat([parameter.detach().reshape(-1) for parameter in run.model.parameters()]), skipped

    plain, _ = trained("false")
    graphed, skipped = trained("reduce-overhead")
    assert skipped == 0
    assert torch.linalg.vector_norm(graphed - plain) < 0.02 * torch.linalg.vector_norm(plain)
