L=fun(K,Vs)->[K,[[9,V]||V<-Vs],10]end,
W=fun(X)->io_lib:format("~w",[X])end,
A=fun(X)->atom_to_list(X)end,
H=fun(B)->[io_lib:format("~2.16.0b",[X])||<<X>><=B]end,
R=fun(V)->case file:consult(filename:join([code:root_dir(),"releases",V,"relup"])) of
{ok,[{_,U,D}]}->[L("way",[X,V])||{X,_,_}<-U]++[L("way",[V,X])||{X,_,_}<-D];
_->[]
end end,
Rs=try release_handler:which_releases() catch _:_->
case file:consult(filename:join([code:root_dir(),"releases","RELEASES"])) of
{ok,[L0]}->[{N0,V0,[D0||{_,_,D0}<-Ds0],S0}||{release,N0,V0,_,Ds0,S0}<-L0];
_->[{element(1,init:script_id()),element(2,init:script_id()),[],permanent}] end end,
binary_to_list(base64:encode(zlib:compress(unicode:characters_to_binary([
L("root",[code:root_dir()]),
L("pid",[os:getpid()]),
L("node",[A(node())]),
L("init",[try {element(1,init:get_status()),application:which_applications()} of {I,_}->A(I) catch _:_->"stopping" end]),
L("erts",[erlang:system_info(version)]),
L("creation",[W(erlang:system_info(creation))]),
L("supervisor",[W(whereis(kernel_sup))]),
L("uptime",[W(element(1,erlang:statistics(wall_clock)) div 1000)]),
L("memory",[W(erlang:memory(total))]),
[L("release",[V,A(S)|[filename:basename(D)||D<-Ds]])||{_,V,Ds,S}<-Rs],
[R(V)||{_,V,_,_}<-Rs],
[L("application",[A(N),V])||{N,_,V}<-application:loaded_applications()],
[L("module",[A(M),H(M:module_info(md5))])||{M,_}<-code:all_loaded(),erlang:function_exported(M,module_info,1)]
])))).
