// Prints values of tensor expressions, a line each; test_standin.py computes the same with torch.
#include <torch/extension.h>

using torch::indexing::Ellipsis;
using torch::indexing::None;
using torch::indexing::Slice;

static void show(const char *name, torch::Tensor t) {
    std::cout << name << " [";
    for (int64_t i = 0; i < t.dim(); i++)
        std::cout << (i ? ", " : "") << t.size(i);
    t = t.contiguous();
    std::cout << "] [";
    for (int64_t i = 0; i < t.numel(); i++)
        std::cout << (i ? ", " : "") << t.data_ptr<float>()[i];
    std::cout << "]\n";
}

int main() {
    std::vector<float> memory(2 * 3 * 4);
    std::iota(memory.begin(), memory.end(), 0.0f);
    auto options = torch::TensorOptions().dtype(torch::kFloat32).requires_grad(false);
    torch::Tensor a = torch::from_blob(memory.data(), {2, 3, 4}, options);
    show("index", a.index({1, Slice(1, None)}));
    show("index_step", a.index({Slice(), Slice(None, None, 2), -1}));
    show("index_ellipsis", a.index({Ellipsis, Slice(-3, -1)}));
    show("index_none", a.index({0, None, Slice(0, 100)}));
    show("transpose", a.transpose(-2, -1).flatten());
    show("permute", a.permute({2, 0, 1}));
    show("reshape", a.transpose(0, 1).reshape({4, -1}));
    show("view", a.view({6, 4}).t());
    show("select", a.select(1, -1));
    show("narrow", a.narrow(2, 1, 2));
    show("squeeze", a.unsqueeze(1).squeeze().unsqueeze(-1));
    show("element", a[1][2]);
    show("one_axes", a.index({0, 0}).unsqueeze(0).unsqueeze(0).view({4}));
    torch::Tensor b = at::zeros({3, 4}, at::kFloat);
    b[1][2] = 5.0f;
    b[0] = a[1][1];
    b.index_put_({2, Slice(0, 2)}, 7.0f);
    show("assigned", b);
    torch::Tensor c = torch::ones_like(b), alias = c;
    alias.fill_(3);
    show("alias", c);
    torch::Tensor copy = c.clone();
    copy.zero_();
    show("clone", c);
    show("broadcast", torch::full({2, 3}, 1.0).copy_(torch::full({3}, 2.0)));
    auto accessor = a.accessor<float, 3>();
    std::cout << "accessor [] [" << accessor[1][0][3] << "]\n";
    std::vector<int> seen(10);
    at::parallel_for(0, 10, 3, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
            seen[i]++;
    });
    std::cout << "parallel [] [" << std::accumulate(seen.begin(), seen.end(), 0) << "]\n";
    for (auto wrong : {+[](torch::Tensor t) { return t.index({5}); },
                       +[](torch::Tensor t) { return t.transpose(0, 1).view({24}); },
                       +[](torch::Tensor t) { return t.view({7, -1}); }})
        try {
            wrong(a);
            std::cout << "no exception\n";
        } catch (const std::exception &) {
            std::cout << "exception\n";
        }
}
